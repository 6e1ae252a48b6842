// A digest of digests, so that the pieces can be read at once.
#include "engine/quantize/digest.h"

#include <openssl/sha.h>

#include <algorithm>

namespace inferd {
namespace {

constexpr std::size_t kPiece = 4u << 20;

Digest sha256(std::span<const std::byte> bytes) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

}  // namespace

Digest digest_of(std::string_view label, const std::vector<std::span<const std::byte>>& parts, ThreadPool& pool) {
  std::vector<std::span<const std::byte>> pieces;
  for (const auto& part : parts) {
    for (std::size_t at = 0; at < part.size(); at += kPiece) {
      pieces.push_back(part.subspan(at, std::min(kPiece, part.size() - at)));
    }
  }
  std::vector<Digest> digests(pieces.size() + 1);
  pool.run(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i, int) {
    digests[static_cast<std::size_t>(i) + 1] = sha256(pieces[static_cast<std::size_t>(i)]);
  });
  digests[0] = sha256(std::as_bytes(std::span(label.data(), label.size())));
  return sha256(std::as_bytes(std::span(digests)));
}

std::string hex_text(const Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace inferd
