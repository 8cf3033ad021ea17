// Command lines of the trainer's commands: --key VALUE, --flag, positional words.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

class Arguments {
 public:
  static Result<Arguments> Parse(const std::vector<std::string>& words,
                                 const std::set<std::string>& options,
                                 const std::set<std::string>& flags) {
    Arguments out;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const std::string& word = words[i];
      if (flags.count(word)) {
        out.values_[word] = "1";
      } else if (options.count(word)) {
        if (i + 1 == words.size())
          return MakeError(ErrorCode::kInvalidArgument, "{} needs a value", word);
        out.values_[word] = words[++i];
      } else if (word.rfind("--", 0) == 0) {
        return MakeError(ErrorCode::kInvalidArgument, "{}: unknown option {}", words[0], word);
      } else {
        out.positional.push_back(word);
      }
    }
    return out;
  }

  bool Has(const std::string& key) const { return values_.count(key) > 0; }
  std::string Get(const std::string& key, const std::string& fallback = "") const {
    const auto it = values_.find(key);
    return it == values_.end() ? fallback : it->second;
  }
  Status Require(const std::vector<std::string>& keys) const {
    for (const std::string& key : keys)
      if (!Has(key)) return MakeError(ErrorCode::kInvalidArgument, "{} is missing", key);
    return {};
  }
  Result<long> Number(const std::string& key, long fallback) const {
    if (!Has(key)) return fallback;
    char* end = nullptr;
    const std::string text = Get(key);
    const long value = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != 0 || value < 0)
      return MakeError(ErrorCode::kInvalidArgument, "{} {}: no count", key, text);
    return value;
  }

  Result<double> Real(const std::string& key, double fallback) const {
    if (!Has(key)) return fallback;
    char* end = nullptr;
    const std::string text = Get(key);
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != 0 || !std::isfinite(value))
      return MakeError(ErrorCode::kInvalidArgument, "{} {}: no number", key, text);
    return value;
  }

  std::vector<std::string> positional;

 private:
  std::map<std::string, std::string> values_;
};

template <typename... Args>
void Print(std::FILE* out, fmt::format_string<Args...> format, Args&&... args) {
  const std::string text = fmt::format(format, std::forward<Args>(args)...);
  std::fwrite(text.data(), 1, text.size(), out);
  std::fflush(out);
}

}  // namespace polyveil::train
