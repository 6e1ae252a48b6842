// ByteTokenizer: bytes, and three control tokens that only templates can write.
#include "engine/sim/sim_tokenizer.h"

#include <array>

#include "base/utf8.h"

namespace inferd {
namespace {

constexpr TokenId kFirstSpecial = 256;
constexpr std::array<std::string_view, 3> kSpecials = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"};

}  // namespace

ByteTokenizer::ByteTokenizer() {
  special_.eos = kFirstSpecial + 1;
  special_.pad = kFirstSpecial + 2;
  special_.stop = {kFirstSpecial + 1, kFirstSpecial + 2};
}

std::vector<TokenId> ByteTokenizer::encode(const MarkedText& text, bool /*add_special*/) const {
  std::vector<TokenId> ids;
  for (const MarkedText::Run& run : text.runs()) {
    for (std::size_t at = 0; at < run.text.size();) {
      std::size_t taken = 0;
      for (std::size_t s = 0; run.trusted && s < kSpecials.size(); ++s) {
        if (run.text.compare(at, kSpecials[s].size(), kSpecials[s]) != 0) continue;
        ids.push_back(kFirstSpecial + static_cast<TokenId>(s));
        taken = kSpecials[s].size();
        break;
      }
      if (taken == 0) {
        ids.push_back(static_cast<unsigned char>(run.text[at]));
        taken = 1;
      }
      at += taken;
    }
  }
  return ids;
}

PairEncoding ByteTokenizer::encode_pair(const MarkedText& first, const MarkedText& second) const {
  PairEncoding pair;
  pair.ids = encode(first, false);
  pair.ids.push_back(special_.pad);
  pair.type_ids.assign(pair.ids.size(), 0);
  const std::vector<TokenId> rest = encode(second, false);
  pair.ids.insert(pair.ids.end(), rest.begin(), rest.end());
  pair.type_ids.resize(pair.ids.size(), 1);
  return pair;
}

bool ByteTokenizer::is_special(TokenId id) const { return id >= kFirstSpecial && id < vocab_size(); }

std::string ByteTokenizer::token_bytes(TokenId id) const {
  if (id < 0 || id >= vocab_size()) return {};
  if (id < kFirstSpecial) return std::string(1, static_cast<char>(static_cast<unsigned char>(id)));
  return std::string(kSpecials[static_cast<std::size_t>(id - kFirstSpecial)]);
}

std::string ByteTokenizer::decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (!(skip_special && is_special(id))) bytes += token_bytes(id);
  }
  return replace_invalid_utf8(bytes);
}

std::optional<TokenId> ByteTokenizer::special_id(std::string_view text) const {
  for (std::size_t s = 0; s < kSpecials.size(); ++s) {
    if (kSpecials[s] == text) return kFirstSpecial + static_cast<TokenId>(s);
  }
  return std::nullopt;
}

std::int64_t ByteTokenizer::vocab_size() const { return kFirstSpecial + static_cast<std::int64_t>(kSpecials.size()); }

}  // namespace inferd
