#include "model/client/text_output.h"

#include <algorithm>

namespace polyveil::model {
namespace {

// Bytes at the text's end that a stop text begins with.
std::size_t Overlap(std::string_view text, std::string_view stop) {
  std::size_t most = std::min(text.size(), stop.size() - 1);
  while (most > 0 && text.substr(text.size() - most) != stop.substr(0, most)) --most;
  return most;
}

}  // namespace

std::string TextOutput::Take(std::string_view characters) {
  if (stopped_) return {};
  waiting_ += characters;
  std::size_t first = std::string::npos, kept = 0;
  for (const std::string& stop : stops_) {
    first = std::min(first, waiting_.find(stop));
    kept = std::max(kept, Overlap(waiting_, stop));
  }
  stopped_ = first != std::string::npos;
  std::string shown = waiting_.substr(0, stopped_ ? first : waiting_.size() - kept);
  waiting_.erase(0, stopped_ ? waiting_.size() : shown.size());
  return shown;
}

std::string TextOutput::Push(std::string_view bytes) { return Take(characters_.Push(bytes)); }

std::string TextOutput::Finish() {
  std::string shown = Take(characters_.Finish());
  if (!stopped_) shown += waiting_;
  waiting_.clear();
  return shown;
}

}  // namespace polyveil::model
