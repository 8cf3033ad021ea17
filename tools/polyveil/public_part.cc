#include "polyveil/public_part.h"

#include <cstdio>

#include "base/printable.h"
#include "polyveil/prompt_file.h"

namespace polyveil::tools {
namespace {

void Show(const model::ClientHalf& half, std::span<const model::TokenId> tokens) {
  for (const model::TokenId token : tokens) {
    const auto piece = half.Piece(token);
    std::fprintf(stderr, "  %7d  \"%s\"\n", token,
                 piece.ok() ? Printable(*piece, 4 * piece->size()).c_str() : "");
  }
}

}  // namespace

void AddPublicOptions(Options& app, const char* what, PublicOptions& o, Option* in_place_of) {
  auto* text = app.add_option(
      "--public", o.text,
      fmt::format(
          "text {} that the server may read: it is sent in the clear and takes no encrypted "
          "step",
          what));
  auto* file =
      app.add_option("--public-file", o.file, "the same from a file, - for the standard input");
  file->excludes(text);
  if (in_place_of != nullptr) {
    text->excludes(in_place_of);
    file->excludes(in_place_of);
  }
  AddPublicFlags(app, o);
}

void AddPublicFlags(Options& app, PublicOptions& o) {
  app.add_flag("--all-private", o.all_private,
               "encrypt that part too: nothing is sent in the clear");
  app.add_flag("--show-public", o.show, "show every token that is sent in the clear, before it is");
}

PublicOptions WithoutPlace(PublicOptions options, const serve::ModelInfo& server) {
  if (options.text.empty() && server.public_tokens == 0) options.all_private = true;
  return options;
}

Status ReadPublicPart(PublicOptions& options) {
  if (options.file.empty()) return {};
  PV_ASSIGN_OR_RETURN(options.text, ReadPrompt(options.file));
  if (!options.text.empty()) return {};
  return MakeError(ErrorCode::kInvalidArgument, "--public-file {}: it is empty", options.file);
}

Result<std::span<const model::TokenId>> AnnouncePublic(const model::ClientHalf& half,
                                                       std::span<const model::TokenId> tokens,
                                                       const PublicOptions& options,
                                                       const serve::ModelInfo& server) {
  if (options.all_private || tokens.empty()) {
    std::fprintf(stderr, "nothing is sent in the clear\n");
    return std::span<const model::TokenId>();
  }
  const std::string text = TextOf(half, tokens);
  std::fprintf(stderr, "in the clear to the server: tokens 1 to %zu, \"%s\"%s\n", tokens.size(),
               Printable(text, 160).c_str(),
               options.show ? "" : " (--show-public: each; --all-private: none)");
  if (options.show) Show(half, tokens);
  if (tokens.size() <= static_cast<size_t>(server.public_tokens)) return tokens;
  return MakeError(
      ErrorCode::kOutOfRange,
      "a public part of {} tokens, the server takes at most {} (--all-private encrypts "
      "them)",
      tokens.size(), server.public_tokens);
}

void WarnOfPublicPart(const serve::RemoteSession& session) {
  if (session.public_out_of_range == 0) return;
  std::fprintf(
      stderr,
      "of the public tokens, %llu inputs left the interval of their polynomial, the worst at "
      "%s: the text may suffer\n",
      static_cast<unsigned long long>(session.public_out_of_range), session.worst_site.c_str());
}

}  // namespace polyveil::tools
