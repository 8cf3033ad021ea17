#include "polyveil/model_files.h"

#include <filesystem>

#include "compile/units.h"

namespace polyveil::tools {

namespace fs = std::filesystem;

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

Result<ClientModel> LoadClientModel(const std::string& directory) {
  PV_ASSIGN_OR_RETURN(auto bundle, model::LoadClientBundle(directory));
  PV_ASSIGN_OR_RETURN(auto tokenizer, model::LoadTokenizer(directory));
  if (tokenizer.vocab_size() > bundle.config.vocab_size) {
    return MakeError(ErrorCode::kMismatch, "{}: the tokenizer has {} tokens, the model {}",
                     directory, tokenizer.vocab_size(), bundle.config.vocab_size);
  }
  return ClientModel{directory, std::move(bundle), std::move(tokenizer)};
}

Status CheckSameModel(const ClientModel& model, const serve::ModelInfo& info) {
  const model::ModelConfig& config = model.bundle.config;
  if (config.tensors_sha256 != info.tensors_sha256) {
    return MakeError(
        ErrorCode::kMismatch, "the server's model '{}' has tensors {}..., {} has {}...", info.name,
        info.tensors_sha256.substr(0, 16), model.directory, config.tensors_sha256.substr(0, 16));
  }
  if (config.context != info.context || config.d_model != info.d_model) {
    return MakeError(ErrorCode::kMismatch,
                     "the server's model has context {}, width {}; {} has {}, {}", info.context,
                     info.d_model, model.directory, config.context, config.d_model);
  }
  const compile::ResidualUnits units = compile::MakeResidualUnits(config);
  if (units.input != info.input_unit || units.result() != info.result_unit) {
    return MakeError(ErrorCode::kMismatch,
                     "the server's model has units {} and {}; {} has {} and {}", info.input_unit,
                     info.result_unit, model.directory, units.input, units.result());
  }
  return {};
}

Result<std::vector<model::TokenId>> PromptTokens(const ClientModel& model, const std::string& text,
                                                 const std::vector<int>& ids, int new_tokens) {
  std::vector<model::TokenId> tokens{model::Tokenizer::kEnd};
  const int vocabulary = model.tokenizer.vocab_size();
  for (const int id : ids) {
    if (id < 0 || id >= vocabulary) {
      return MakeError(ErrorCode::kOutOfRange, "prompt: token {} is outside the vocabulary [0, {})",
                       id, vocabulary);
    }
    tokens.push_back(id);
  }
  for (const model::TokenId id : model.tokenizer.Encode(text)) tokens.push_back(id);
  if (tokens.size() == 1) return MakeError(ErrorCode::kInvalidArgument, "prompt: it is empty");
  // The last new token is not fed back.
  const size_t positions = tokens.size() + static_cast<size_t>(new_tokens) - 1;
  const auto context = static_cast<size_t>(model.bundle.config.context);
  if (positions > context) {
    return MakeError(
        ErrorCode::kOutOfRange,
        "prompt: {} tokens (with the start mark) and {} new ones need {} positions, the "
        "model's context is {}: a prompt of at most {} tokens fits",
        tokens.size(), new_tokens, positions, context,
        std::max<long>(0, static_cast<long>(context) - new_tokens + 1));
  }
  return tokens;
}

}  // namespace polyveil::tools
