// JSON from outside: bounded, without exceptions, refused where a key stands twice.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
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

  bool Has(const char* key) const { return json_.is_object() && json_.contains(key); }
  bool Given(const char* key) const;  // present and not null
  const Json* Find(const char* key) const;
  void Fail(const char* key, std::string_view what) const;
  const Json& json() const { return json_; }

 private:
  const Json& json_;
  std::string where_;
  std::string& error_;
};

}  // namespace polyveil::model
