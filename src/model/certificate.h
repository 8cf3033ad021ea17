// What was tried on a model before it was released: does a text leave its fitted intervals, and how
// large is the error of an encrypted run. The object "certificate" of model.json and forms.json.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/result.h"

namespace polyveil::model {

class JsonReader;

// What stands for a ratio that is no number: a value that overflowed.
inline constexpr double kOverflowRatio = 1e30;

// A position is a token that was evaluated; it is out of range when any polynomial reads a value
// outside its interval there.
struct Certificate {
  // The search for the worst inputs; 0 where none was made.
  std::uint64_t searched_inputs = 0, searched_positions = 0;
  std::uint64_t out_of_range = 0;  // of the searched inputs
  double worst_outside = 1;        // largest excess beyond an interval's end as a ratio, 1: none
  // Other next tokens there than with every argument clamped to its interval.
  std::uint64_t changed_tokens = 0;
  double least_margin = 1;  // an interval's end over the value that came closest to it
  // Text that was not trained on.
  std::uint64_t heldout_positions = 0, heldout_out_of_range = 0;
  // Calibration text whose out-of-range positions the bounds do not cover.
  std::uint64_t left_out_positions = 0;
  // Largest error of a logit in a simulated encrypted run (noise of every operation); nothing where
  // none was made.
  std::optional<double> predicted_logit_error;
};

// Keeps the first fault in the reader's error. Every field must be there but left_out_positions and
// predicted_logit_error.
Certificate CertificateFromJson(const JsonReader& at);
nlohmann::ordered_json CertificateToJson(const Certificate& certificate);

// Counts that belong together, ratios of 1 and more (the margin: more than 0), an error of 0 and
// more, all finite. Errors: kOutOfRange (field, values); `where` begins the message.
Status ValidateCertificate(const Certificate& certificate, const std::string& where);

// What `generate`, a server and an exporter accept of a predicted error: no next token of a usable
// model hangs on less.
inline constexpr double kLargestLogitError = 0.05;

// Errors: kOutOfRange (both values) for a certificate that predicts more than `largest`.
Status CheckPredictedError(const std::optional<Certificate>& certificate, double largest);

// One line for people, without its end.
std::string CertificateToText(const std::optional<Certificate>& certificate);

}  // namespace polyveil::model
