// UTF-8 validation and decoding after the Unicode Standard, table 3-7.
#include "base/utf8.h"

namespace inferd {
namespace {

constexpr char32_t kReplacement = 0xfffd;

/// What stands at one offset: a character, or the maximal prefix of one.
struct Sequence {
  std::size_t length = 1;  // of the character, or of the maximal ill-formed subsequence
  char32_t code_point = kReplacement;
  bool valid = false;
  bool truncated = false;  // ill-formed only because the text ends
};

/// How many continuation bytes follow `lead`, and between which bounds the first of them lies; 0: not a lead byte.
struct Lead {
  int continuations;
  unsigned char low, high;
  char32_t bits;
};

Lead classify_lead(unsigned char lead) {
  if (lead >= 0xc2 && lead <= 0xdf) return {1, 0x80, 0xbf, static_cast<char32_t>(lead & 0x1f)};
  if (lead >= 0xe0 && lead <= 0xef) {
    const unsigned char low = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned char high = lead == 0xed ? 0x9f : 0xbf;
    return {2, low, high, static_cast<char32_t>(lead & 0x0f)};
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    const unsigned char low = lead == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xf4 ? 0x8f : 0xbf;
    return {3, low, high, static_cast<char32_t>(lead & 0x07)};
  }
  return {0, 0, 0, 0};
}

Sequence sequence_at(std::string_view text, std::size_t offset) {
  Sequence result;
  const auto first = static_cast<unsigned char>(text[offset]);
  if (first < 0x80) {
    result.code_point = first;
    result.valid = true;
    return result;
  }
  const Lead lead = classify_lead(first);
  if (lead.continuations == 0) return result;
  char32_t code_point = lead.bits;
  for (int i = 0; i < lead.continuations; ++i) {
    const std::size_t at = offset + 1 + static_cast<std::size_t>(i);
    if (at >= text.size()) {
      result.truncated = true;
      return result;
    }
    const auto byte = static_cast<unsigned char>(text[at]);
    const unsigned char low = i == 0 ? lead.low : 0x80;
    const unsigned char high = i == 0 ? lead.high : 0xbf;
    if (byte < low || byte > high) return result;
    code_point = (code_point << 6) | (byte & 0x3fu);
    ++result.length;
  }
  result.code_point = code_point;
  result.valid = true;
  return result;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const Sequence sequence = sequence_at(text, i);
    if (!sequence.valid) return false;
    i += sequence.length;
  }
  return true;
}

char32_t decode_utf8(std::string_view text, std::size_t* offset) {
  if (*offset >= text.size()) return kReplacement;
  const Sequence sequence = sequence_at(text, *offset);
  *offset += sequence.valid ? sequence.length : 1;
  return sequence.code_point;
}

void append_utf8(std::string* out, char32_t code_point) {
  if (code_point > 0x10ffff || (code_point >= 0xd800 && code_point <= 0xdfff)) code_point = kReplacement;
  const auto push = [out](char32_t byte) { out->push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code_point < 0x80) {
    push(code_point);
  } else if (code_point < 0x800) {
    push(0xc0 | (code_point >> 6));
    push(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    push(0xe0 | (code_point >> 12));
    push(0x80 | ((code_point >> 6) & 0x3f));
    push(0x80 | (code_point & 0x3f));
  } else {
    push(0xf0 | (code_point >> 18));
    push(0x80 | ((code_point >> 12) & 0x3f));
    push(0x80 | ((code_point >> 6) & 0x3f));
    push(0x80 | (code_point & 0x3f));
  }
}

std::size_t complete_utf8_prefix(std::string_view text) {
  // Only the last three bytes can begin a character that the end cuts off.
  const std::size_t earliest = text.size() < 3 ? 0 : text.size() - 3;
  for (std::size_t i = text.size(); i > earliest; --i) {
    const std::size_t at = i - 1;
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte >= 0x80 && byte <= 0xbf) continue;
    return sequence_at(text, at).truncated ? at : text.size();
  }
  return text.size();
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Sequence sequence = sequence_at(text, i);
    if (sequence.valid) {
      out.append(text.substr(i, sequence.length));
    } else {
      append_utf8(&out, kReplacement);
    }
    i += sequence.length;
  }
  return out;
}

}  // namespace inferd
