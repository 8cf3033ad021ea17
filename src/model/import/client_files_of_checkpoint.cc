#include "model/import/client_files_of_checkpoint.h"

#include <filesystem>
#include <set>

#include "model/client_config.h"
#include "model/formats/checkpoint.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

constexpr JsonLimits kCheckpointConfigLimits{16 << 20, 64};

// eos_token_id of a JSON file: a number, several, or none.
Status ReadEnds(const std::string& path, std::set<std::int32_t>& ends) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return {};
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  PV_ASSIGN_OR_RETURN(const auto json,
                      ParseStrictJson(file->text(), path, kCheckpointConfigLimits));
  const auto field = json.is_object() ? json.find("eos_token_id") : json.end();
  if (!json.is_object() || field == json.end() || field->is_null()) return {};
  for (const auto& id : field->is_array() ? *field : nlohmann::json::array({*field})) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= 1 << 20)
      return MakeError(ErrorCode::kCorrupt, "{}: eos_token_id holds {}, no token", path,
                       id.dump().substr(0, 64));
    ends.insert(id.get<std::int32_t>());
  }
  return {};
}

Status ReadEnds(const GgufFile& file, std::set<std::int32_t>& ends) {
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    PV_ASSIGN_OR_RETURN(const auto id, file.Integer(std::string("tokenizer.ggml.") + key));
    if (id && *id >= 0 && *id < 1 << 20) ends.insert(static_cast<std::int32_t>(*id));
  }
  return {};
}

void AddMatrix(const TensorView& view, const char* name,
               const std::shared_ptr<const Checkpoint>& owner, ClientConfig& config,
               ClientFiles& files) {
  config.tensors[name] = {view.type, {view.rows(), view.cols()}};
  files.Add(name, view.bytes, owner);
}

void AddVector(const std::vector<float>& values, const char* name, ClientConfig& config,
               ClientFiles& files) {
  if (values.empty()) return;
  config.tensors[name] = {ElementType::kF32, {static_cast<std::int64_t>(values.size())}};
  files.Add(name, std::string(reinterpret_cast<const char*>(values.data()),
                              values.size() * sizeof(float)));
}

// As TextTokenizer::Load takes them.
Status AddTextFiles(const Checkpoint& checkpoint, ClientFiles& files,
                    std::set<std::int32_t>& ends) {
  if (checkpoint.gguf) {
    const auto metadata = checkpoint.gguf->MetadataOnly();
    files.Add(kTextGgufName, std::string(metadata.begin(), metadata.end()));
    return ReadEnds(*checkpoint.gguf, ends);
  }
  const std::string& folder = checkpoint.directory;
  PV_RETURN_IF_ERROR(ReadEnds(folder + "/config.json", ends));
  PV_RETURN_IF_ERROR(ReadEnds(folder + "/generation_config.json", ends));
  PV_RETURN_IF_ERROR(files.AddIfThere(folder, kTextGgufName));
  if (const ClientFile* file = files.Find(kTextGgufName)) {
    PV_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(file->bytes));
    return ReadEnds(gguf, ends);
  }
  for (const char* name : {kTextJsonName, kTextConfigName, kChatTemplateName})
    PV_RETURN_IF_ERROR(files.AddIfThere(folder, name));
  return {};
}

bool IsEncoder(const Architecture& a) { return !a.causal && a.form == BlockForm::kPostNorm; }

Status CheckFamily(const Architecture& a, int prefix) {
  const bool decoder = a.causal && a.head == HeadKind::kCausalLm &&
                       a.form != BlockForm::kPostNorm && a.type_vocab == 0 && !a.padding_token;
  if (!decoder && !(IsEncoder(a) && a.head != HeadKind::kCausalLm))
    return MakeError(ErrorCode::kInvalidArgument,
                     "family: {} is neither a pre-norm decoder with a head, which writes text, nor "
                     "a post-norm encoder",
                     a.family);
  if (prefix >= a.context)
    return MakeError(ErrorCode::kOutOfRange, "forms.prefix has {} tokens, the context {}", prefix,
                     a.context);
  return {};
}

ClientConfig ConfigOf(const Checkpoint& checkpoint, const std::string& name,
                      const std::string& model_digest) {
  const Architecture& a = checkpoint.architecture;
  ClientConfig config;
  config.name = name;
  config.model_digest = model_digest;
  config.family = a.family;
  config.width = a.d_model;
  config.vocabulary = a.vocab_size;
  if (checkpoint.forms) {
    config.prefix = checkpoint.forms->prefix;
    config.certificate = checkpoint.forms->certificate;
  }
  config.context = a.context - static_cast<int>(config.prefix.size());
  config.position_offset = a.position_offset;
  const bool layer_norm = a.norm == NormKind::kLayerNorm;
  config.centred = layer_norm;
  if (a.embedding_norm) config.embedding_norm = ClientNorm{layer_norm, a.norm_eps};
  if (a.final_norm || IsEncoder(a)) config.final_norm = ClientNorm{layer_norm, a.norm_eps};
  if (IsEncoder(a)) {
    const bool classifies = a.head == HeadKind::kClassifier;
    config.encoder = ClientEncoder{classifies ? a.labels : std::vector<std::string>(),
                                   a.pooler == Pooler::kRelu};
  }
  return config;
}

// The norm of an encoder's last block is the client's; the gain and bias of that of its embedding
// stand in the first block's matrices.
void AddEncoder(const std::shared_ptr<const Checkpoint>& checkpoint, ClientConfig& config,
                ClientFiles& files) {
  const Weights& w = checkpoint->weights;
  const std::vector<float> ones(static_cast<std::size_t>(config.width), 1);
  AddVector(ones, kEmbeddingGainName, config, files);
  AddVector(w.layers.back().ffn_norm.gain, kFinalGainName, config, files);
  AddVector(w.layers.back().ffn_norm.bias, kFinalBiasName, config, files);
  if (!w.type_embedding.empty()) AddMatrix(w.type_embedding, kTypeName, checkpoint, config, files);
  if (config.encoder->labels.empty()) return;
  AddMatrix(w.pooler.weight, kPoolerName, checkpoint, config, files);
  AddVector(w.pooler.bias, kPoolerBiasName, config, files);
  AddMatrix(w.classifier.weight, kClassifierName, checkpoint, config, files);
  AddVector(w.classifier.bias, kClassifierBiasName, config, files);
}

void AddDecoder(const std::shared_ptr<const Checkpoint>& checkpoint, ClientConfig& config,
                ClientFiles& files) {
  const Weights& w = checkpoint->weights;
  if (!checkpoint->architecture.tied_head)
    AddMatrix(w.head.weight, kHeadName, checkpoint, config, files);
  AddVector(w.embedding_norm.gain, kEmbeddingGainName, config, files);
  AddVector(w.embedding_norm.bias, kEmbeddingBiasName, config, files);
  AddVector(w.final_norm.gain, kFinalGainName, config, files);
  AddVector(w.final_norm.bias, kFinalBiasName, config, files);
}

}  // namespace

Result<ClientFiles> ClientFilesOfCheckpoint(const std::shared_ptr<const Checkpoint>& checkpoint,
                                            const std::string& name,
                                            const std::string& model_digest) {
  const Architecture& a = checkpoint->architecture;
  PV_RETURN_IF_ERROR(CheckFamily(a, checkpoint->forms ? checkpoint->forms->prefix_length() : 0));
  const Weights& w = checkpoint->weights;
  ClientConfig config = ConfigOf(*checkpoint, name, model_digest);
  ClientFiles files;
  AddMatrix(w.token_embedding, kEmbedName, checkpoint, config, files);
  if (!a.rotary) AddMatrix(w.position_embedding, kPositionName, checkpoint, config, files);
  if (config.encoder)
    AddEncoder(checkpoint, config, files);
  else
    AddDecoder(checkpoint, config, files);
  std::set<std::int32_t> ends;
  PV_RETURN_IF_ERROR(AddTextFiles(*checkpoint, files, ends));
  for (const std::int32_t end : ends)
    if (end < a.vocab_size) config.ends.push_back(end);
  files.Add(kClientConfigName, FormatClientConfig(config));
  return files;
}

}  // namespace polyveil::model
