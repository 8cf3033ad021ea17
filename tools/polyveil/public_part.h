// The part of a text that goes to a server in the clear: as options, and said before it is sent.
#pragma once

#include <span>
#include <string>

#include "base/command_line.h"
#include "polyveil/model_files.h"

namespace polyveil::tools {

struct PublicOptions {
  std::string text, file;
  bool all_private = false;  // everything is encrypted all the same
  bool show = false;
};
// what: of the text, "before the prompt". in_place_of: an option that excludes it, or null.
void AddPublicOptions(Options& app, const char* what, PublicOptions& options,
                      Option* in_place_of = nullptr);

// The last two of them: of a head that is public unless they say otherwise.
void AddPublicFlags(Options& app, PublicOptions& options);

// Fills in the text of the file. Errors: those of ReadPrompt, kInvalidArgument for an empty file.
Status ReadPublicPart(PublicOptions& options);

// What is sent in the clear: `tokens`, or none with --all-private. Says on stderr what they are
// (with --show-public one by one), before anything is sent. Errors: kOutOfRange where the server
// takes fewer (both values).
Result<std::span<const model::TokenId>> AnnouncePublic(const model::ClientHalf& half,
                                                       std::span<const model::TokenId> tokens,
                                                       const PublicOptions& options,
                                                       const serve::ModelInfo& server);

// A head that nobody asked to publish is encrypted where the server takes none.
PublicOptions WithoutPlace(PublicOptions options, const serve::ModelInfo& server);

// Of a session that has begun: public tokens that left a fitted interval.
void WarnOfPublicPart(const serve::RemoteSession& session);

}  // namespace polyveil::tools
