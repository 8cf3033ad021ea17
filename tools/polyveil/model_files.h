// Where models are, and the client's half of one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/command_line.h"
#include "compile/compiled_decoder.h"
#include "model/client/client_half.h"
#include "serve/client/client_model.h"
#include "serve/client/remote_model.h"

namespace polyveil::tools {

using ClientHalf = serve::ClientHalfPtr;
using serve::LoadClientHalf;

// The model of a verb, by its place or as --model.
Option* AddModel(Options& app, std::string& model, const std::string& what);

// What is compiled of a model, and for which parameters.
struct ProgramOptions {
  std::string parameters;  // empty: runtime::DefaultParameters
  bool at_once = false;    // prompts
  int texts = 1;           // decoded together
  bool choose = false;     // the server chooses tokens: choice.json of the model
};
// `of` what: "of the own server".
void AddChoose(Options& app, ProgramOptions& options);
// The programs that they ask for. path: the model's. Errors: those of LoadChoice.
Result<compile::DecoderPrograms> ProgramsOf(const ProgramOptions& options, const std::string& path);
void AddProgramOptions(Options& app, const std::string& of, ProgramOptions& options);

// `given`, or the embedded model: models/tiny of the working folder, of the build's source folder,
// or of the installation. Errors: kNotFound names the places.
Result<std::string> FindModel(const std::string& given);

// The one that the server sends, from the user's cache folder once it is there. Says on stderr what
// it fetches.
Result<ClientHalf> FetchWithProgress(serve::RemoteModel& remote, serve::ClientCacheOptions cache);

// Whether a server's model is this one (of `path`). Where the half does not know the digest of its
// other half, the server's client half must have the same files. Errors: kMismatch, the field and
// both values; those of FetchManifest.
Status CheckSameModel(const model::ClientHalf& half, const std::string& path,
                      serve::RemoteModel& remote);

struct PromptText {
  std::string known;     // public, before the rest
  std::vector<int> ids;  // token ids before the text
  std::string text;
};

struct PromptTokens {
  std::vector<model::TokenId> all;  // what stands before every text included
  size_t known = 0;  // the first of them, with a public part: it is encoded by itself

  // Those that are sent in the clear: without the constant prefix.
  std::span<const model::TokenId> Public(const model::ClientHalf& half) const {
    const auto prefix = static_cast<size_t>(half.prefix());
    return known > prefix ? std::span(all).subspan(prefix, known - prefix)
                          : std::span<const model::TokenId>();
  }
};

// What stands before every text, then the prompt's tokens. Errors: those of CheckWrites,
// kInvalidArgument (empty, but for a public part), kOutOfRange (an unknown token; a prompt above
// the context; all values named).
Result<PromptTokens> EncodePrompt(const model::ClientHalf& half, const PromptText& prompt,
                                  int context);

// Tokens as text: whole characters.
std::string TextOf(const model::ClientHalf& half, std::span<const model::TokenId> tokens);

}  // namespace polyveil::tools
