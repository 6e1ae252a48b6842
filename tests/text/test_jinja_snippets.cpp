// Each construct of the template language against what jinja2 printed.
#include <cstdlib>
#include <ctime>

#include "tests/catch.h"
#include "tests/text/jinja_support.h"

namespace inferd::test {

TEST_CASE("snippets render as in jinja2", "[jinja]") {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json golden = read_golden("snippets.json");
  REQUIRE(golden["snippets"].size() >= 120);
  for (const Json& snippet : golden["snippets"]) {
    const Outcome outcome = render_json(snippet["source"].get<std::string>(), snippet["variables"]);
    INFO(snippet["source"].get<std::string>());
    if (snippet.contains("error")) {
      INFO("jinja2: " << snippet["error"].get<std::string>() << "\nhere: " << outcome.text);
      CHECK(outcome.failed);
    } else {
      CHECK(outcome.text == snippet["output"].get<std::string>());
      CHECK_FALSE(outcome.failed);
    }
  }
}

TEST_CASE("raise_exception passes its text on, other errors name the line", "[jinja]") {
  CHECK(render_json("{{ raise_exception('roles must alternate') }}", Json::object()).text == "roles must alternate");
  CHECK(render_json("a\n\n{{ nope.x }}", Json::object()).text == "chat template, line 3: 'nope' is undefined");
  CHECK(render_json("a\n{% if %}", Json::object()).text == "line 2: expected an expression, found '%}'");
  CHECK(render_json("a\n{% include 'x' %}", Json::object()).text ==
        "line 2: 'include' is refused: a template must stand alone");
  CHECK(render_json("{% nosuch %}", Json::object()).failed);
}

}  // namespace inferd::test
