// TemplateError: what a chat template throws when it refuses its messages.
#pragma once

#include <stdexcept>

namespace inferd {

/// The template refused these messages (raise_exception) or ran out of fuel; the client's fault: a 400.
class TemplateError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace inferd
