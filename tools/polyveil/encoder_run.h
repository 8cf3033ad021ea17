// Texts through an encoder on a server, as a verb runs them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "polyveil/encoder_batches.h"
#include "polyveil/model_session.h"

namespace polyveil::tools {

struct EncoderOptions {
  std::vector<std::string> texts;
  std::string file;    // a text a line, - for the standard input
  std::string second;  // of a pair: what the one text is compared with
  std::string json, page;
  SessionOptions session;
  bool check = false;
};
void AddEncoderOptions(Options& app, EncoderOptions& options);

struct EncoderResults {
  std::shared_ptr<const model::ClientHalf> half;
  std::vector<std::string> texts;
  std::vector<Residuals> encrypted;  // by text
  std::vector<Residuals> plain;      // of the float64 polynomial model, with --check
  bool logits = false;               // they are, of a text's first token, in place of residuals
  RunReport report;
  int runs = 0;  // of programs, each of as many texts as have room
};

// Runs all texts. Tells on stderr what it does. Errors: kInvalidArgument for no text or a model
// that is no encoder, kOutOfRange for a text that is too long, those of the session.
Result<EncoderResults> RunEncoder(EncoderOptions options);

// What the runs cost, for the screen.
std::string CostToText(const EncoderResults& results);
// --json and --report.
Status WriteEncoderReport(const EncoderOptions& options, const EncoderResults& results,
                          const nlohmann::json& report);

}  // namespace polyveil::tools
