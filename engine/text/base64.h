// Base64 (RFC 4648) as tokenizer files use it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace inferd {

/// The bytes of standard base64 with or without padding; nullopt if `text` is not that.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace inferd
