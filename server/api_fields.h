// Readers of fields that several endpoints share.
#pragma once

#include <string>
#include <vector>

#include "server/api_types.h"
#include "server/json_fields.h"

namespace inferd {

/// `least_tokens`: the least that max_tokens may be.
void read_generation_fields(Fields& fields, std::int64_t least_tokens, GenerationFields& out);
/// Refuses or reports what nobody asked for.
void report_unknown(const Fields& fields, const ApiOptions& options, std::vector<std::string>& ignored);
/// "model": a name, or empty.
std::string read_model(Fields& fields);
/// A string, a list of strings, a list of ids, or a list of lists of ids; never empty.
std::vector<TextOrTokens> read_texts(Fields& fields, std::string_view name, std::size_t max_items);
TokenIds read_token_ids(const Json& array, const std::string& param);

/// Checks messages and brings them into the form templates expect.
Json read_messages(Fields& fields, const ApiOptions& options);
Json read_tools(Fields& fields, const ApiOptions& options);
/// chat_template_kwargs: booleans, numbers and short strings.
Json read_template_kwargs(Fields& fields);

}  // namespace inferd
