// What an answer may be: from a request's response_format, tools and tool_choice to a grammar.
#pragma once

#include "server/api_types.h"
#include "server/grammar_cache.h"
#include "server/served_model.h"

namespace inferd {

/// The grammar that the request asks for; none if it asks for nothing. `reasoning_open`: the prompt ended in the tag
/// that opens reasoning. Throws ApiError(400): a schema that cannot be enforced, or calls that this model cannot be
/// made to write.
AnswerGrammar chat_grammar(const ServedModel& model, const ChatRequest& chat, bool reasoning_open);
AnswerGrammar completion_grammar(const ServedModel& model, const ResponseFormat& format);

}  // namespace inferd
