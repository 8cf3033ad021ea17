// The client's half of a model (embedding and head), and both halves together in float64.
#pragma once

#include <span>
#include <vector>

#include "model/client/sampling.h"
#include "model/client/tokenizer.h"
#include "model/decoder_reference.h"

namespace polyveil::model {

// The d_model values of the text's last token, which the client encrypts: embed[token] +
// pos[position] + the tables' entries for its last 2, 3, .. tokens, as far as there are as many.
// text: every token from position 0 on. Errors: kOutOfRange for no text, a token outside the
// vocabulary or a position outside the context.
Result<std::vector<double>> Embed(const ClientBundle& client, std::span<const TokenId> text);

// logits = embed . (final_gamma * x / sqrt(mean x^2 + final_norm_eps)). Requires d_model values.
Result<std::vector<double>> Head(const ClientBundle& client, std::span<const double> x);

struct LanguageModelBundle {
  BodyBundle body;
  ClientBundle client;
  Tokenizer tokenizer;
};

// Body, client part and tokenizer.json of a folder; the tokenizer's vocabulary must fit the
// model's.
Result<LanguageModelBundle> LoadLanguageModel(const std::string& directory);
Result<Tokenizer> LoadTokenizer(const std::string& directory);

// The whole model on one side, for references and tests. client is kept by reference.
class ReferenceLanguageModel {
 public:
  ReferenceLanguageModel(const Decoder& decoder, const ClientBundle& client,
                         Evaluation evaluation = Evaluation::kPolynomial)
      : body_(decoder, evaluation), client_(client) {}

  // Logits after token at position (= tokens so far).
  Result<std::vector<double>> Step(TokenId token, int position);
  void Reset() {
    body_.Reset();
    text_.clear();
  }
  DecoderReference& body() { return body_; }

 private:
  DecoderReference body_;
  const ClientBundle& client_;
  std::vector<TokenId> text_;
};

// kEnd, the prompt's tokens, then at most max_new_tokens picked ones (stops at kEnd or a full
// context). Returns the new tokens only. Errors: kOutOfRange for a prompt that fills the context
// (both values), kUntrustedResult for logits that are not finite (token and site).
Result<std::vector<TokenId>> Generate(ReferenceLanguageModel& model,
                                      const std::vector<TokenId>& prompt, int max_new_tokens,
                                      const SamplingOptions& options);

}  // namespace polyveil::model
