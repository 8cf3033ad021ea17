// JSON from outside: bounded, without exceptions, refused where a key stands twice.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace polyveil::model {

struct JsonLimits {
  std::size_t max_bytes = 1 << 20;
  int max_depth = 16;
};

// Errors: kOutOfRange (bytes), kCorrupt (no JSON, nested deeper than max_depth, a key twice in one
// object). `what` begins the message.
Result<nlohmann::json> ParseStrictJson(std::string_view text, std::string_view what,
                                       const JsonLimits& limits = {});

// Reads typed fields and keeps in `error` the first one that is missing, of another type or out of
// its bounds; after that everything reads as zero or empty. json and error must outlive the reader.
class JsonReader {
 public:
  using Json = nlohmann::json;

  JsonReader(const Json& json, std::string where, std::string& error)
      : json_(json), where_(std::move(where)), error_(error) {}

  int Int(const char* key) const;  // 0 .. 2^24
  std::uint64_t Count(const char* key) const;
  double Number(const char* key) const;  // finite
  bool Bool(const char* key) const;
  std::string Text(const char* key) const;
  std::vector<double> Numbers(const char* key) const;  // at most 4096
  JsonReader Object(const char* key) const;

  // The fallback where the field is missing or null.
  int IntOr(const char* key, int fallback) const { return Given(key) ? Int(key) : fallback; }
  double NumberOr(const char* key, double fallback) const {
    return Given(key) ? Number(key) : fallback;
  }
  bool BoolOr(const char* key, bool fallback) const { return Given(key) ? Bool(key) : fallback; }
  std::string TextOr(const char* key, const char* fallback) const {
    return Given(key) ? Text(key) : fallback;
  }

  bool Has(const char* key) const {
    asked_.insert(key);
    return json_.is_object() && json_.contains(key);
  }
  bool Given(const char* key) const;  // present and not null
  const Json* Find(const char* key) const;
  void Fail(const char* key, std::string_view what) const;
  // Fails for a field with a value (null is none) that this reader was never asked for and that
  // `irrelevant` does not hold for: what a file says is used, or refused by its name.
  template <typename Irrelevant>
  void RefuseOthers(Irrelevant irrelevant) const {
    if (!json_.is_object()) return;
    for (const auto& [key, value] : json_.items())
      if (!value.is_null() && !asked_.contains(key) && !irrelevant(std::string_view(key)))
        Fail(key.substr(0, 64).c_str(),
             fmt::format("({}) is not known: it may change what the file means",
                         value.dump().substr(0, 64)));
  }
  const Json& json() const { return json_; }

 private:
  const Json& json_;
  std::string where_;
  std::string& error_;
  mutable std::set<std::string, std::less<>> asked_;
};

}  // namespace polyveil::model
