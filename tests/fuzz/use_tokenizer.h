// What the fuzzers of tokenizer files do with a tokenizer that loaded.
#pragma once

#include <cstdlib>

#include "base/utf8.h"
#include "engine/text/tokenizer.h"

namespace inferd::test {

/// Encodes and decodes, trusted and not; aborts on an id below 0 or decoded text that is no UTF-8.
inline void use_tokenizer(const Tokenizer& tokenizer) {
  const std::string text = "Hello  w\xc3\xb6rld 123 <s></s> \xe4\xbd\xa0\xf0\x9f\x98\x80\n <|im_end|>\t\xe2\x96\x81x";
  for (const MarkedText& input : {MarkedText::trusted(text), MarkedText::untrusted(text)}) {
    const std::vector<TokenId> ids = tokenizer.encode(input, true);
    for (const TokenId id : ids) {
      if (id < 0) std::abort();
      tokenizer.token_bytes(id);
      tokenizer.first_token_bytes(id);
      tokenizer.is_special(id);
    }
    if (!is_valid_utf8(tokenizer.decode(ids, false)) || !is_valid_utf8(tokenizer.decode(ids, true))) std::abort();
  }
  tokenizer.encode_pair(MarkedText::untrusted("one"), MarkedText::untrusted("two"));
  for (const TokenId id : {-1, 0, 2147483647}) tokenizer.token_bytes(id);
  tokenizer.special_id("</s>");
}

}  // namespace inferd::test
