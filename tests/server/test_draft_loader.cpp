// Which vocabularies count as the same, and how a difference is told.
#include "base/errors.h"
#include "engine/sim/sim_tokenizer.h"
#include "server/draft_loader.h"
#include "tests/catch.h"

namespace inferd {
namespace {

/// Bytes and control tokens, some of them changed or added.
class Changed final : public Tokenizer {
 public:
  Changed(std::vector<std::pair<TokenId, std::string>> texts, std::int64_t size)
      : texts_(std::move(texts)), size_(size) {}
  std::string token_bytes(TokenId id) const override {
    for (const auto& [changed, text] : texts_) {
      if (changed == id) return text;
    }
    return id < size_ ? bytes_.token_bytes(id) : std::string();
  }
  std::int64_t vocab_size() const override { return size_; }
  std::string first_token_bytes(TokenId id) const override { return token_bytes(id); }
  std::vector<TokenId> encode(const MarkedText& text, bool add) const override { return bytes_.encode(text, add); }
  PairEncoding encode_pair(const MarkedText& a, const MarkedText& b) const override { return bytes_.encode_pair(a, b); }
  std::string decode(const std::vector<TokenId>& ids, bool skip) const override { return bytes_.decode(ids, skip); }
  bool is_special(TokenId id) const override { return bytes_.is_special(id); }
  bool strips_leading_space() const override { return false; }
  std::optional<TokenId> special_id(std::string_view text) const override { return bytes_.special_id(text); }
  const SpecialTokens& special() const override { return bytes_.special(); }

 private:
  ByteTokenizer bytes_;
  std::vector<std::pair<TokenId, std::string>> texts_;
  std::int64_t size_;
};

std::string difference(const Tokenizer& model, const Tokenizer& draft) {
  try {
    check_same_vocabulary(model, draft, "big", "/small");
  } catch (const ConfigError& error) {
    CHECK(error.code == ExitCode::bad_config);
    return error.what();
  }
  return "none";
}

TEST_CASE("vocabularies are the same if every id has the same text; padding does not count") {
  const ByteTokenizer bytes;
  CHECK(difference(bytes, Changed({}, 259)) == "none");
  CHECK(difference(bytes, Changed({}, 400)) == "none");
  CHECK(difference(Changed({}, 400), bytes) == "none");
  const std::string begin = "model big: draft_model: /small: expected the same vocabulary, but token ";
  CHECK(difference(bytes, Changed({{'b', "x"}, {'a', "y"}}, 259)) ==
        begin + "97 is 'a' in the model and 'y' in its draft model");
  CHECK(difference(bytes, Changed({}, 258)) ==
        begin + "258 is '<|endoftext|>' in the model and nothing in its draft model");
  CHECK(difference(bytes, Changed({{300, "new"}}, 301)) ==
        begin + "300 is nothing in the model and 'new' in its draft model");
}

}  // namespace
}  // namespace inferd
