// Fields of a config: one visit reads or writes them, and refuses what it did not ask for.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "train/train_config.h"

namespace polyveil::train {

template <typename T>
struct IsList : std::false_type {};
template <typename T>
struct IsList<std::vector<T>> : std::true_type {};

// Reads or writes fields of one object, by the direction; collects what was not asked for.
class Fields {
 public:
  Fields(nlohmann::ordered_json& json, bool reading, std::string where, std::string& error)
      : json_(json), reading_(reading), where_(std::move(where)), error_(error) {
    if (reading_ && !json_.is_object()) Fail("is no object");
  }
  ~Fields() {
    if (!reading_ || !json_.is_object()) return;
    for (const auto& [key, value] : json_.items())
      if (!known_.count(key)) Fail("has an unknown field \"" + key + "\"");
  }

  template <typename T>
  void Field(const char* key, T& value) {
    known_.insert(key);
    if (!reading_) {
      json_[key] = value;
    } else if (json_.is_object() && json_.contains(key)) {
      Read(key, value);
    }
  }

  void Choice(const char* key, const std::vector<std::string>& names, int& value) {
    std::string name = names[static_cast<std::size_t>(value)];
    Field(key, name);
    value = Find(key, names, name);
  }

  template <typename Enum>
  void Choices(const char* key, const std::vector<std::string>& names, std::vector<Enum>& values) {
    std::vector<std::string> chosen;
    for (const Enum value : values) chosen.push_back(names[static_cast<std::size_t>(value)]);
    Field(key, chosen);
    values.clear();
    for (const std::string& name : chosen)
      values.push_back(static_cast<Enum>(Find(key, names, name)));
  }

  void Object(const char* key, const std::function<void(Fields&)>& body) {
    known_.insert(key);
    if (reading_ && !(json_.is_object() && json_.contains(key))) return;
    Fields inner(json_[key], reading_, where_ + "." + key, error_);
    body(inner);
  }

  // There when the value is.
  template <typename T, typename Visit>
  void Optional(const char* key, std::optional<T>& value, const Visit& visit) {
    if (reading_ && Has(key) && !value) value.emplace();
    if (value) Object(key, [&](Fields& inner) { visit(inner, *value); });
  }

  // A list of at most `most` objects.
  template <typename T, typename Visit>
  void Objects(const char* key, std::vector<T>& values, std::size_t most, const Visit& visit) {
    known_.insert(key);
    if (reading_ && !Has(key)) return;
    nlohmann::ordered_json& list = json_[key];
    if (reading_) {
      if (!list.is_array() || list.size() > most)
        return Fail(fmt::format("{} is no list of at most {}", key, most));
      values.resize(list.size());
    } else {
      list = nlohmann::ordered_json(values.size(), nlohmann::ordered_json::object());
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      Fields inner(list[i], reading_, fmt::format("{}.{}[{}]", where_, key, i), error_);
      visit(inner, values[i]);
    }
  }

 private:
  bool Has(const char* key) const { return json_.is_object() && json_.contains(key); }

  int Find(const char* key, const std::vector<std::string>& names, const std::string& name) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it != names.end()) return static_cast<int>(it - names.begin());
    Fail(std::string(key) + " = \"" + name + "\" is no known choice");
    return 0;
  }

  template <typename T>
  static bool Fits(const nlohmann::ordered_json& field) {
    if (field.is_number_unsigned())
      return field.get<std::uint64_t>() <=
             static_cast<std::uint64_t>(std::numeric_limits<T>::max());
    return field.get<std::int64_t>() >= std::numeric_limits<T>::min() &&
           field.get<std::int64_t>() <= std::numeric_limits<T>::max();
  }

  template <typename T>
  void Read(const char* key, T& value) {
    const nlohmann::ordered_json& field = json_[key];
    if constexpr (std::is_same_v<T, bool>) {
      if (!field.is_boolean()) return Fail(std::string(key) + " is no boolean");
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (!field.is_number_unsigned()) return Fail(std::string(key) + " is no count");
    } else if constexpr (std::is_integral_v<T>) {
      if (!field.is_number_integer()) return Fail(std::string(key) + " is no integer");
      if (!Fits<T>(field))
        return Fail(fmt::format("{} = {} is not in {}..{}", key, field.dump(),
                                std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    } else if constexpr (std::is_floating_point_v<T>) {
      if (!field.is_number() || !std::isfinite(field.get<double>()))
        return Fail(std::string(key) + " is no number");
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!field.is_string()) return Fail(std::string(key) + " is no string");
    } else if constexpr (IsList<T>::value) {
      try {
        (void)field.get<T>();
      } catch (const nlohmann::ordered_json::exception&) {
        return Fail(std::string(key) + " is no list of the kind it should be");
      }
    } else {
      if (!field.is_object()) return Fail(std::string(key) + " is no object");
      for (const auto& entry : field)
        if (!entry.is_number()) return Fail(std::string(key) + " holds a value that is no number");
    }
    value = field.get<T>();
  }

  void Fail(const std::string& what) {
    if (error_.empty()) error_ = where_ + ": " + what;
  }

  nlohmann::ordered_json& json_;
  bool reading_;
  std::string where_;
  std::string& error_;
  std::set<std::string> known_;
};

// A whole config from JSON, over defaults. Unknown fields are refused. Errors: kCorrupt for what is
// no JSON, kInvalidArgument (the field named), those of check.
template <typename Config, typename Visit, typename Check>
Result<Config> ParseConfig(std::string_view text, Config config, const Visit& visit,
                           const Check& check) {
  auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_discarded()) return MakeError(ErrorCode::kCorrupt, "config: no JSON");
  std::string error;
  {
    Fields fields(json, true, "config", error);
    visit(fields, config);
  }
  if (!error.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}", error);
  PV_RETURN_IF_ERROR(check(config));
  return config;
}

template <typename Config, typename Visit>
std::string FormatConfig(Config config, const Visit& visit) {
  auto json = nlohmann::ordered_json::object();
  std::string error;
  {
    Fields fields(json, false, "config", error);
    visit(fields, config);
  }
  return json.dump(2) + "\n";
}

// The parts of train_config.h that every kind of run has.
inline void VisitClamp(Fields& f, ClampOptions& clamp) {
  f.Field("clamp_fraction", clamp.fraction);
  f.Field("clamp_widening", clamp.widening);
}

inline Status CheckClamp(const std::string& where, const ClampOptions& clamp) {
  if (clamp.fraction >= 0 && clamp.fraction < 1 && clamp.widening >= 1) return {};
  return MakeError(ErrorCode::kOutOfRange,
                   "config.{}: clamp_fraction {} not in [0, 1), or clamp_widening {} < 1", where,
                   clamp.fraction, clamp.widening);
}

inline void VisitSchedule(Fields& f, Schedule& schedule) {
  f.Field("warmup", schedule.warmup);
  f.Field("decay_fraction", schedule.decay_fraction);
  f.Field("final_fraction", schedule.final_fraction);
}

inline void VisitIntervals(Fields& f, Intervals& intervals) {
  f.Field("log_every", intervals.log_every);
  f.Field("eval_every", intervals.eval_every);
  f.Field("checkpoint_every", intervals.checkpoint_every);
}

inline void VisitHinge(Fields& at, const char* key, HingeOptions& hinge) {
  at.Object(key, [&](Fields& f) {
    f.Field("weight", hinge.weight);
    f.Field("peak_weight", hinge.peak_weight);
    f.Field("window", hinge.window);
    f.Field("one_sided", hinge.one_sided);
  });
}

inline void VisitRange(Fields& f, RangeOptions& range) {
  VisitHinge(f, "divisor", range.divisor);
  VisitHinge(f, "variance", range.variance);
  VisitHinge(f, "residual", range.residual);
  VisitHinge(f, "activation", range.activation);
  f.Field("interval_margin", range.interval_margin);
}

}  // namespace polyveil::train
