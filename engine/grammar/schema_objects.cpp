// SchemaGrammar: objects and arrays.
#include <algorithm>

#include "engine/grammar/schema_grammar.h"

namespace inferd {
namespace {

constexpr std::size_t kMostMembers = 5'000;
constexpr std::size_t kMostPrefixItems = 1'000;

const Json* find(const Json& schema, const char* keyword) {
  const auto found = schema.find(keyword);
  return found == schema.end() ? nullptr : &*found;
}

}  // namespace

std::vector<SchemaGrammar::Member> SchemaGrammar::members(const Json& schema, const std::string& pointer, int depth,
                                                          bool bare) {
  const Json* properties = find(schema, "properties");
  const Json* required = find(schema, "required");
  const std::string at = pointer_to(pointer, "properties");
  if (properties != nullptr && !properties->is_object()) throw SchemaError(at, "'properties' must be an object.");
  const bool names = required == nullptr ||
                     (required->is_array() &&
                      std::all_of(required->begin(), required->end(), [](const Json& n) { return n.is_string(); }));
  if (!names) throw SchemaError(pointer_to(pointer, "required"), "'required' must be an array of strings.");
  std::vector<Member> out;
  const auto add = [&](const std::string& name, const Json& member, const std::string& where, bool needed) {
    if (out.size() >= kMostMembers)
      throw SchemaError(at, "It has more than " + std::to_string(kMostMembers) + " members.");
    const bool before = std::exchange(bare_, bare);
    out.push_back({name, needed, builder_.rule(value(member, where, depth + 1))});
    bare_ = before;
  };
  const Json all = properties != nullptr ? *properties : Json::object();
  const Json needed = required != nullptr ? *required : Json::array();
  for (const auto& [name, member] : all.items()) {
    add(name, member, pointer_to(at, name), std::find(needed.begin(), needed.end(), name) != needed.end());
  }
  const Json* further = find(schema, "additionalProperties");
  for (const Json& name : needed) {  // required, and not described
    const bool known = std::any_of(out.begin(), out.end(), [&](const Member& m) { return name == m.name; });
    if (!known)
      add(name, further != nullptr ? *further : Json(true), pointer_to(pointer, "additionalProperties"), true);
  }
  return out;
}

GrammarExpr SchemaGrammar::object(const Json& schema, const std::string& pointer, int depth) {
  const std::vector<Member> known = members(schema, pointer, depth, false);
  const Json* additional = find(schema, "additionalProperties");
  const bool open = additional != nullptr ? *additional != false : known.empty() && !schema.contains("properties");
  if (!open || schema.contains("patternProperties")) return object_text(known, nullptr);
  std::vector<std::string> taken;
  for (const Member& member : known) taken.push_back(member.name);
  const GrammarExpr any =
      additional == nullptr ? json_.value()
                            : builder_.rule(value(*additional, pointer_to(pointer, "additionalProperties"), depth + 1));
  const GrammarExpr key = taken.empty() ? json_.string() : json_.other_key(taken);
  const GrammarExpr further = builder_.rule(json_.member(key, any));
  return object_text(known, &further);
}

/// Members in their order; those that need not be there may be left out. Then, if given, any number of `further`.
GrammarExpr SchemaGrammar::object_text(const std::vector<Member>& members, const GrammarExpr* further) {
  const GrammarExpr close = builder_.sequence({json_.space(), builder_.literal("}")});
  const auto one = [&](const Member& member) {
    return json_.member(builder_.literal(dump_json(Json(member.name))), member.text);
  };
  // What may come behind member i, and what may come there if nothing came before, from the last one backwards.
  GrammarExpr behind = close, first = builder_.literal("}");
  if (further != nullptr) {
    const GrammarExpr more = builder_.star(builder_.sequence({json_.comma(), *further}));
    behind = builder_.rule(builder_.sequence({more, close}));
    first = builder_.choice({first, builder_.sequence({*further, behind})});
  } else {
    behind = builder_.rule(close);
  }
  for (std::size_t i = members.size(); i-- > 0;) {
    const GrammarExpr member = one(members[i]);
    const GrammarExpr here = builder_.sequence({member, behind});
    first = members[i].required ? here : builder_.rule(builder_.choice({here, first}));
    if (i == 0) break;
    const GrammarExpr later = builder_.sequence({json_.comma(), member, behind});
    behind = builder_.rule(members[i].required ? later : builder_.choice({later, behind}));
  }
  return builder_.rule(builder_.sequence({builder_.literal("{"), json_.space(), first}));
}

GrammarExpr SchemaGrammar::array(const Json& schema, const std::string& pointer, int depth) {
  const Json* items = find(schema, "items");
  const Json* prefix = find(schema, "prefixItems");
  std::string items_at = pointer_to(pointer, "items"), prefix_at = pointer_to(pointer, "prefixItems");
  if (items != nullptr && items->is_array()) {  // before draft 2020-12
    prefix = items;
    prefix_at = items_at;
    items = find(schema, "additionalItems");
    items_at = pointer_to(pointer, "additionalItems");
  }
  if (prefix != nullptr && (!prefix->is_array() || prefix->size() > kMostPrefixItems)) {
    throw SchemaError(prefix_at, "It must be an array of at most " + std::to_string(kMostPrefixItems) + " schemas.");
  }
  const std::uint32_t min = count(schema, "minItems", pointer, 0);
  const std::uint32_t max = count(schema, "maxItems", pointer, kUnlimited);
  const GrammarExpr rest = items == nullptr ? json_.value() : builder_.rule(value(*items, items_at, depth + 1));
  const auto fixed = static_cast<std::uint32_t>(prefix == nullptr ? 0 : prefix->size());
  if (fixed == 0) return builder_.rule(json_.list('[', rest, min, max, ']'));
  const GrammarExpr close = builder_.sequence({json_.space(), builder_.literal("]")});
  const auto less = [&](std::uint32_t limit) {
    return limit == kUnlimited ? limit : limit > fixed ? limit - fixed : 0;
  };
  const GrammarExpr further = builder_.repeat(builder_.sequence({json_.comma(), rest}), less(min), less(max));
  // What may come behind item i, from the last one backwards.
  GrammarExpr behind = builder_.rule(builder_.sequence({further, close}));
  for (std::uint32_t i = fixed; i-- > 0;) {
    const GrammarExpr item = builder_.rule(value((*prefix)[i], pointer_to(prefix_at, std::to_string(i)), depth + 1));
    std::vector<GrammarExpr> forms;
    if (i >= min) forms.push_back(i == 0 ? builder_.literal("]") : close);
    if (i < max) forms.push_back(builder_.sequence({i == 0 ? builder_.empty() : json_.comma(), item, behind}));
    behind = builder_.rule(builder_.choice(std::move(forms)));
  }
  return builder_.rule(builder_.sequence({builder_.literal("["), json_.space(), behind}));
}

std::vector<SchemaGrammar::Member> SchemaGrammar::bare_members(const std::vector<std::string>& words) {
  bare_text_ = builder_.rule(builder_.graph(text_without(words)));
  const Json schema = reader_.expanded(root_, "");
  if (!schema.is_object()) throw SchemaError("", "The parameters must be of an object.");
  check_keywords(schema, "");
  if (schema.contains("anyOf") || schema.contains("oneOf") || schema.contains("enum") || schema.contains("const")) {
    throw SchemaError("", "For this model's form of tool calls, the parameters must be one object's.");
  }
  return members(schema, "", 0, true);
}

}  // namespace inferd
