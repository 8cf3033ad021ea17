// Whole texts through an encoder on a server: as many in one ciphertext as have room, and what
// becomes of the tokens that come back.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/command_line.h"
#include "model/client/client_half.h"
#include "serve/client/encrypted_session.h"

namespace polyveil::tools {

// Of one text: by token, as decrypted.
using Residuals = std::vector<std::vector<double>>;

// A text's tokens. place: how an error names it. Errors: kOutOfRange for one above the context
// (both numbers).
Result<model::EncoderText> EncodeWithin(const model::ClientHalf& half, const std::string& text,
                                        const std::string& second, int context,
                                        const std::string& place);

// The shortest that reads so many tokens at once; the longest where none does.
const serve::PromptInfo& ProgramFor(std::span<const serve::PromptInfo> programs, size_t tokens);

// Is told of runs, each of texts `first` to `end` (without it).
class BatchObserver {
 public:
  virtual ~BatchObserver() = default;
  virtual serve::RemoteProgressCallback Asking(size_t first, size_t end, int tokens) = 0;
  virtual void Answered() {}
  // What it took, from embedding to decrypted residuals.
  virtual void Read(int tokens, const serve::SessionStep& cost, double seconds) = 0;
};

// programs: the server's, the longest with room for any of the texts. Attention's cost grows with
// the square of a program's tokens, so that texts share the shortest that has room for the first of
// them. Errors: those of the session.
Result<std::vector<Residuals>> RunBatches(const model::ClientHalf& half,
                                          serve::EncryptedSession& session,
                                          std::span<const serve::PromptInfo> programs,
                                          const std::vector<model::EncoderText>& texts,
                                          BatchObserver& observer);

// How a text's vector is made of its tokens'.
struct Pooling {
  std::string kind = "mean";
  bool raw = false;  // at the length it has; otherwise of length 1
};
void AddPooling(Options& app, Pooling& pooling);
Result<std::vector<double>> Pool(const model::ClientHalf& half, const Residuals& tokens,
                                 const Pooling& pooling);
// What stands on the screen, in a report and in the proxy's reply alike: six digits.
double Rounded(double value);

}  // namespace polyveil::tools
