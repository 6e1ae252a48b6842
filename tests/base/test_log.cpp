// Untrusted text in log lines stays on its line and short.
#include "base/log.h"

#include "base/utf8.h"
#include "tests/catch.h"

namespace inferd {

TEST_CASE("control bytes, separators and invalid bytes are written out") {
  REQUIRE(log_safe("x\n[critical] fake\r\x1b[2J\x7f") == "x\\x0a[critical] fake\\x0d\\x1b[2J\\x7f");
  REQUIRE(log_safe("a\xc2\x85"
                   "b\xe2\x80\xa8"
                   "c\xe2\x80\xa9") == "a\\xc2\\x85b\\xe2\\x80\\xa8c\\xe2\\x80\\xa9");
  REQUIRE(log_safe("\xff\xe2\x82") == "\\xff\\xe2\\x82");
  REQUIRE(log_safe(std::string("a\0b", 3)) == "a\\x00b");
  REQUIRE(log_safe("caf\xc3\xa9 \xef\xbf\xbd") == "caf\xc3\xa9 \xef\xbf\xbd");
}

TEST_CASE("long text is cut at 256 bytes, never inside a character or an escape") {
  REQUIRE(log_safe(std::string(1'000'000, 'a')).size() == 256);
  std::string euros;
  for (int i = 0; i < 200; ++i) euros += "\xe2\x82\xac";
  REQUIRE(log_safe(euros).size() == 255);
  REQUIRE(is_valid_utf8(log_safe(euros)));
  REQUIRE(log_safe(std::string(100, '\n')).size() == 256);
}

}  // namespace inferd
