#include "polyveil/model_files.h"

#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>

#include "base/utf8.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"
#include "serve/server/load_choice.h"

namespace polyveil::tools {
namespace {

namespace fs = std::filesystem;

// Tables, tokenizer and the rest; client.json also says what the other half's digest is.
std::map<std::string, std::string> DigestsOf(const model::ClientManifest& manifest) {
  std::map<std::string, std::string> digests;
  for (const auto& entry : manifest.files)
    if (entry.name != model::kClientConfigName) digests[entry.name] = entry.sha256;
  return digests;
}

Status CheckSameFiles(const model::ClientHalf& half, const std::string& path,
                      serve::RemoteModel& remote) {
  PV_ASSIGN_OR_RETURN(const auto manifest, serve::FetchManifest(remote, {}));
  const auto theirs = DigestsOf(manifest), ours = DigestsOf(half.Manifest());
  for (const auto& [name, digest] : ours) {
    const auto other = theirs.find(name);
    if (other == theirs.end() || other->second != digest)
      return MakeError(ErrorCode::kMismatch, "the server's model '{}' has {} {}, {} has {}...",
                       remote.info().name, name,
                       other == theirs.end() ? "none" : other->second.substr(0, 16) + "...", path,
                       digest.substr(0, 16));
  }
  return {};
}

}  // namespace

Option* AddModel(Options& app, std::string& model, const std::string& what) {
  return app.add_option("model,--model", model, what);
}

void AddProgramOptions(Options& app, const std::string& of, ProgramOptions& options) {
  app.add_option("--parameters", options.parameters,
                 fmt::format("parameter set{} (default: decode16, with --at-once prompt16)", of));
  app.add_flag("--at-once", options.at_once, "read prompts at once, for three times the keys");
  AddNumber(app, "--texts", options.texts, {1, 1 << 15},
            "texts that are decoded together, a token of each a step: a power of two");
}

void AddChoose(Options& app, ProgramOptions& options) {
  app.add_flag("--choose", options.choose,
               "the server chooses the tokens (choice.json of the model: 'polyveil fit-choice')");
}

Result<compile::DecoderPrograms> ProgramsOf(const ProgramOptions& options,
                                            const std::string& path) {
  compile::DecoderPrograms programs{.prompts = options.at_once, .texts = options.texts};
  if (!options.choose) return programs;
  PV_ASSIGN_OR_RETURN(const ClientHalf half, LoadClientHalf(path));
  PV_ASSIGN_OR_RETURN(programs.choice, serve::LoadChoice(path, half->files()));
  return programs;
}

Result<std::string> FindModel(const std::string& given) {
  if (!given.empty()) return given;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::string places;
  for (const fs::path& place : {fs::path("models/tiny"), program / "../../models/tiny",
                                program / "../share/polyveil/models/tiny"}) {
    if (fs::exists(place / "model.json", error)) return place.lexically_normal().string();
    places += (places.empty() ? "" : ", ") + place.lexically_normal().string();
  }
  return MakeError(ErrorCode::kNotFound, "no model.json in {}; name a model with --model", places);
}

Result<ClientHalf> FetchWithProgress(serve::RemoteModel& remote, serve::ClientCacheOptions cache) {
  Timer timer;
  std::optional<ProgressBar> bar;
  u64 bytes = 0;
  cache.on_bytes = [&](u64 done, u64 total) {
    if (!bar) bar.emplace("client's half of the model", 1);
    bytes = total;
    bar->Update(static_cast<double>(done) / static_cast<double>(std::max<u64>(1, total)),
                Bytes(total));
  };
  cache.on_wait = [] {
    std::fprintf(stderr, "another process is fetching the client's half of the model ...\n");
  };
  auto half = serve::FetchClientHalf(remote, cache);
  bar.reset();
  if (half.ok() && bytes > 0)
    std::fprintf(stderr, "the client's half of the model is here: %s in %s\n", Bytes(bytes).c_str(),
                 FormatSeconds(timer.Seconds()).c_str());
  return half;
}

Status CheckSameModel(const model::ClientHalf& half, const std::string& path,
                      serve::RemoteModel& remote) {
  const serve::ModelInfo& info = remote.info();
  const std::string& digest = half.config().model_digest;
  if (!digest.empty() && digest != info.tensors_sha256)
    return MakeError(ErrorCode::kMismatch,
                     "the server's model '{}' has tensors {}..., {} has {}...", info.name,
                     info.tensors_sha256.substr(0, 16), path, digest.substr(0, 16));
  if (half.width() != info.d_model || info.context > half.context())
    return MakeError(ErrorCode::kMismatch,
                     "the server's model has context {}, width {}; {} has {}, {}", info.context,
                     info.d_model, path, half.context(), half.width());
  return digest.empty() ? CheckSameFiles(half, path, remote) : Status();
}

Result<PromptTokens> EncodePrompt(const model::ClientHalf& half, const PromptText& prompt,
                                  int context) {
  PV_RETURN_IF_ERROR(half.CheckWrites());
  PromptTokens result;
  std::vector<model::TokenId>& tokens = result.all;
  tokens = half.Encode(prompt.known);
  const size_t before = tokens.size();
  if (!prompt.known.empty()) result.known = before;
  for (const int id : prompt.ids) {
    if (id < 0 || id >= half.vocabulary()) {
      return MakeError(ErrorCode::kOutOfRange, "prompt: token {} is outside the vocabulary [0, {})",
                       id, half.vocabulary());
    }
    tokens.push_back(id);
  }
  for (const model::TokenId id : half.EncodePart(prompt.text)) tokens.push_back(id);
  if (tokens.size() == before)
    return MakeError(ErrorCode::kInvalidArgument, "prompt: it is empty{}",
                     result.known > 0 ? " behind its public part" : "");
  const int positions = static_cast<int>(tokens.size()) - half.prefix();
  if (positions > context)
    return MakeError(ErrorCode::kOutOfRange,
                     "prompt: {} tokens (with {} that stand before it), the model's context is {}",
                     positions, static_cast<int>(before) - half.prefix(), context);
  return result;
}

std::string TextOf(const model::ClientHalf& half, std::span<const model::TokenId> tokens) {
  Utf8Stream stream;
  std::string text;
  for (const model::TokenId token : tokens) {
    const auto piece = half.Piece(token);
    if (piece.ok()) text += stream.Push(*piece);
  }
  return text + stream.Finish();
}

}  // namespace polyveil::tools
