// Tokenizer: text to token ids and back, one interface over all vocabularies.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/marked_text.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

using TokenId = std::int32_t;

/// Ids with a role; -1 where the vocabulary has none.
struct SpecialTokens {
  TokenId bos = -1, eos = -1, unk = -1, pad = -1, cls = -1, sep = -1, mask = -1;
  std::vector<TokenId> stop;  // every id that ends a chat turn or a text (eos, <|im_end|>, <|eot_id|>, …)
};

/// Two texts as one input, for models that compare them.
struct PairEncoding {
  std::vector<TokenId> ids;
  std::vector<std::int32_t> type_ids;  // 0 in the first part, 1 in the second, as the tokenizer's template says
};

/// Immutable and thread-safe. Owned by its served model.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text`. Special (added) tokens are matched in trusted runs only; text across a run boundary of equal
  /// meaning is tokenised as one string otherwise. `add_special`: put the tokenizer's own prefix and suffix around
  /// (BOS, [CLS] … [SEP]), never doubling a prefix that is there. Input must be valid UTF-8.
  virtual std::vector<TokenId> encode(const MarkedText& text, bool add_special) const = 0;

  /// The bytes a token adds to the output: may be a part of a UTF-8 character; empty for ids without a piece.
  /// Special tokens give their text (callers hide them with is_special).
  virtual std::string token_bytes(TokenId id) const = 0;

  /// What the token adds when it is the first one of a text: token_bytes, mostly without its leading space.
  virtual std::string first_token_bytes(TokenId id) const = 0;

  /// Both texts with the tokenizer's own special tokens around them ([CLS] A [SEP] B [SEP]).
  virtual PairEncoding encode_pair(const MarkedText& first, const MarkedText& second) const = 0;

  /// The text of `ids` as the reference tokenizer decodes it (no clean-up of spaces), invalid UTF-8 as U+FFFD.
  virtual std::string decode(const std::vector<TokenId>& ids, bool skip_special) const = 0;

  /// True for control tokens, which are not text in an answer.
  virtual bool is_special(TokenId id) const = 0;

  /// True if the very first token of a text loses one leading space when decoded (SentencePiece dummy prefix).
  virtual bool strips_leading_space() const = 0;

  /// The id whose piece is exactly `text` among special/added tokens.
  virtual std::optional<TokenId> special_id(std::string_view text) const = 0;

  virtual std::int64_t vocab_size() const = 0;  // ids are < this; the model's may be larger
  virtual const SpecialTokens& special() const = 0;
};

/// Builds the tokenizer of a checkpoint: GGUF metadata, tokenizer.json, tokenizer.model, vocab.txt … . Throws
/// CheckpointError.
std::unique_ptr<Tokenizer> load_tokenizer(const Checkpoint& checkpoint);

}  // namespace inferd
