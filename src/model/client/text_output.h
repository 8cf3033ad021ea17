// What of a model's tokens may be shown: whole characters, nothing of a stop text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace polyveil::model {

class TextOutput {
 public:
  // stops: each ends the text before it. Requires none to be empty.
  explicit TextOutput(std::vector<std::string> stops = {}) : stops_(std::move(stops)) {}

  // The characters that can be shown now: what may still become a stop text, or a character, waits.
  // Nothing once the text has stopped.
  std::string Push(std::string_view bytes);
  // What waited, when no more tokens come.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  std::string Take(std::string_view characters);

  std::vector<std::string> stops_;
  Utf8Stream characters_;
  std::string waiting_;  // the beginning of a stop text, perhaps
  bool stopped_ = false;
};

}  // namespace polyveil::model
