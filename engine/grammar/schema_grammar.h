// SchemaGrammar: a JSON schema as an expression of a grammar.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/json_text.h"
#include "engine/grammar/pattern.h"
#include "engine/grammar/schema_merge.h"

namespace inferd {

/// Compiles one schema. Every text of the expression fits the schema, as far as its keywords can be enforced; the
/// converse does not hold: members stand in the schema's order, members that it does not name come only where it says
/// so (with "additionalProperties", or if it names none), numbers have limited digits.
class SchemaGrammar {
 public:
  /// `strict`: a keyword that cannot be enforced is an error, else it is told by ignored(). The rest outlives it.
  SchemaGrammar(GrammarBuilder& builder, JsonText& json, const Json& root, bool strict);

  /// The JSON texts that fit. Throws SchemaError, GrammarError.
  GrammarExpr value();

  /// A member of an object.
  struct Member {
    std::string name;
    bool required = false;
    GrammarExpr text = 0;
  };
  /// The members of the root, which must be of an object, for forms that write each as plain text: strings bare,
  /// without any of `words` in them, other values as JSON. Throws likewise.
  std::vector<Member> bare_members(const std::vector<std::string>& words);

  /// Pointers to keywords that are not enforced.
  const std::vector<std::string>& ignored() const { return ignored_; }

 private:
  GrammarExpr value(const Json& schema, const std::string& pointer, int depth);
  GrammarExpr referred(const Json& schema, const std::string& pointer, int depth);
  GrammarExpr alternatives(const Json& schema, const char* keyword, const std::string& pointer, int depth);
  GrammarExpr listed(const Json& schema, const std::string& pointer);
  GrammarExpr typed(const Json& schema, const std::string& type, const std::string& pointer, int depth);
  GrammarExpr text(const Json& schema, const std::string& pointer);
  GrammarExpr number(const Json& schema, bool whole, const std::string& pointer);
  GrammarExpr object(const Json& schema, const std::string& pointer, int depth);
  GrammarExpr array(const Json& schema, const std::string& pointer, int depth);
  std::vector<Member> members(const Json& schema, const std::string& pointer, int depth, bool bare);
  GrammarExpr object_text(const std::vector<Member>& members, const GrammarExpr* further);
  std::vector<std::string> types(const Json& schema, const std::string& pointer) const;
  void check_keywords(const Json& schema, const std::string& pointer);
  void cannot(const std::string& pointer, std::string_view keyword, std::string_view why = {});
  std::uint32_t count(const Json& schema, const char* keyword, const std::string& pointer,
                      std::uint32_t otherwise) const;

  GrammarBuilder& builder_;
  JsonText& json_;
  const Json& root_;
  const bool strict_;
  SchemaReader reader_;
  bool bare_ = false;  // a string here is written bare
  GrammarExpr bare_text_ = 0;
  std::map<std::pair<std::string, bool>, GrammarRule> rules_;  // by "$ref"
  std::vector<std::string> ignored_;
  int schemas_ = 0;
};

}  // namespace inferd
