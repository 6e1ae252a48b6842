// RaisedByTemplate: raise_exception's own text, which reaches the client as it is.
#pragma once

#include "engine/text/template_error.h"

namespace inferd::jinja {

class RaisedByTemplate : public TemplateError {
 public:
  using TemplateError::TemplateError;
};

}  // namespace inferd::jinja
