#include "model/client_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/ngram.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kClientFormat = "polyveil-client/1";
constexpr std::size_t kMaxTensors = 64, kMaxNameBytes = 256, kMaxLabels = 4096;
constexpr int kMaxVocabulary = 1 << 20, kMaxWidth = 16384, kMaxContext = 1 << 22;
constexpr std::int64_t kMaxRows = std::int64_t{1} << 24;

std::optional<ElementType> TypeFromName(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(ElementType::kI8); ++i) {
    const auto type = static_cast<ElementType>(i);
    const bool held = FormatOf(type).real || type == ElementType::kI8;
    if (held && name == FormatOf(type).name) return type;
  }
  return std::nullopt;
}

OrderedJson NormToJson(const ClientNorm& norm) {
  return {{"subtracts_mean", norm.subtracts_mean}, {"eps", norm.eps}};
}

std::optional<ClientNorm> NormFromJson(const JsonReader& at, const char* key) {
  if (!at.Given(key)) return std::nullopt;
  const JsonReader field = at.Object(key);
  const ClientNorm norm{field.Bool("subtracts_mean"), field.Number("eps")};
  if (!(norm.eps >= 0 && norm.eps < 1)) at.Fail(key, fmt::format("has eps {}", norm.eps));
  return norm;
}

OrderedJson EncoderToJson(const ClientEncoder& encoder) {
  return {{"labels", encoder.labels}, {"pooler", encoder.relu_pooler ? "relu" : "tanh"}};
}

std::optional<ClientEncoder> EncoderFromJson(const JsonReader& at, const char* key) {
  if (!at.Given(key)) return std::nullopt;
  const JsonReader field = at.Object(key);
  ClientEncoder encoder;
  const auto* labels = field.Has("labels") ? field.Find("labels") : nullptr;
  if (labels == nullptr || !labels->is_array() || labels->size() > kMaxLabels) {
    at.Fail(key, fmt::format("has labels that are no array of at most {}", kMaxLabels));
    return encoder;
  }
  for (const auto& label : *labels) {
    const bool named =
        label.is_string() && label.get_ref<const std::string&>().size() <= kMaxNameBytes;
    if (!named) at.Fail(key, "has a label that is no text of at most 256 bytes");
    encoder.labels.push_back(named ? label.get<std::string>() : "");
  }
  if (encoder.labels.size() == 1) at.Fail(key, "has 1 label, a classifier has 2 or more");
  const std::string pooler = field.Text("pooler");
  if (pooler != "tanh" && pooler != "relu")
    at.Fail(key, "has a pooler that is neither tanh nor relu");
  encoder.relu_pooler = pooler == "relu";
  return encoder;
}

std::vector<std::int32_t> TokensFromJson(const JsonReader& at, const char* key, int vocabulary) {
  std::vector<std::int32_t> tokens;
  for (const double token : at.Numbers(key)) {
    const bool known = token >= 0 && token < vocabulary && token == std::floor(token);
    if (!known) at.Fail(key, fmt::format("holds {}, no token below {}", token, vocabulary));
    tokens.push_back(known ? static_cast<std::int32_t>(token) : 0);
  }
  if (tokens.size() > 64) at.Fail(key, fmt::format("has {} tokens > 64", tokens.size()));
  return tokens;
}

ClientTensor TensorFromJson(const JsonReader& at) {
  ClientTensor tensor;
  const std::string name = at.Text("type");
  const auto type = TypeFromName(name);
  if (!type) at.Fail("type", fmt::format("is \"{}\", no type of weights", name.substr(0, 32)));
  tensor.type = type.value_or(ElementType::kF32);
  for (const double extent : at.Numbers("shape")) {
    if (!(extent >= 1 && extent <= kMaxRows) || extent != std::floor(extent))
      at.Fail("shape", fmt::format("holds {}, not in 1..{}", extent, kMaxRows));
    tensor.shape.push_back(static_cast<std::int64_t>(std::clamp<double>(extent, 1, kMaxRows)));
  }
  if (tensor.shape.empty() || tensor.shape.size() > 2)
    at.Fail("shape", fmt::format("has {} extents, not 1 or 2", tensor.shape.size()));
  return tensor;
}

void ReadTensors(const JsonReader& at, std::string& error, ClientConfig& config) {
  const auto* tensors = at.Has("tensors") ? at.Find("tensors") : nullptr;
  if (tensors == nullptr || !tensors->is_object() || tensors->size() > kMaxTensors)
    return at.Fail("tensors", fmt::format("is no object of at most {}", kMaxTensors));
  for (const auto& [name, json] : tensors->items())
    config.tensors[name] =
        TensorFromJson(JsonReader(json, "client.tensors." + name.substr(0, 64), error));
}

int InRange(const JsonReader& at, const char* key, int lo, int hi) {
  const int value = at.Int(key);
  if (value < lo || value > hi) at.Fail(key, fmt::format("is {}, not in {}..{}", value, lo, hi));
  return value;
}

ClientConfig Read(const JsonReader& at, std::string& error) {
  ClientConfig config;
  config.name = at.Text("name");
  config.model_digest = at.Text("model_digest");
  config.family = at.Text("family");
  for (const auto& [key, text] :
       {std::pair{"name", &config.name}, std::pair{"model_digest", &config.model_digest},
        std::pair{"family", &config.family}})
    if (text->size() > kMaxNameBytes) at.Fail(key, "is longer than 256 bytes");
  config.width = InRange(at, "width", 1, kMaxWidth);
  config.vocabulary = InRange(at, "vocabulary", 2, kMaxVocabulary);
  config.context = InRange(at, "context", 1, kMaxContext);
  config.prefix = TokensFromJson(at, "prefix", config.vocabulary);
  config.begin = TokensFromJson(at, "begin", config.vocabulary);
  config.ends = TokensFromJson(at, "ends", config.vocabulary);
  config.position_offset = InRange(at, "position_offset", 0, 64);
  config.ngrams = InRange(at, "ngrams", 0, kLargestNgram - kSmallestNgram + 1);
  config.centred = at.Bool("centred");
  config.embedding_norm = NormFromJson(at, "embedding_norm");
  config.final_norm = NormFromJson(at, "final_norm");
  config.encoder = EncoderFromJson(at, "encoder");
  ReadTensors(at, error, config);
  if (at.Given("certificate")) config.certificate = CertificateFromJson(at.Object("certificate"));
  return config;
}

}  // namespace

std::string FormatClientConfig(const ClientConfig& c) {
  OrderedJson tensors = OrderedJson::object();
  for (const auto& [name, tensor] : c.tensors)
    tensors[name] = {{"type", FormatOf(tensor.type).name}, {"shape", tensor.shape}};
  OrderedJson out = {{"format", kClientFormat},
                     {"name", c.name},
                     {"model_digest", c.model_digest},
                     {"family", c.family},
                     {"width", c.width},
                     {"vocabulary", c.vocabulary},
                     {"context", c.context},
                     {"prefix", c.prefix},
                     {"begin", c.begin},
                     {"ends", c.ends},
                     {"position_offset", c.position_offset},
                     {"ngrams", c.ngrams},
                     {"centred", c.centred}};
  if (c.embedding_norm) out["embedding_norm"] = NormToJson(*c.embedding_norm);
  if (c.final_norm) out["final_norm"] = NormToJson(*c.final_norm);
  if (c.encoder) out["encoder"] = EncoderToJson(*c.encoder);
  out["tensors"] = tensors;
  if (c.certificate) out["certificate"] = CertificateToJson(*c.certificate);
  return out.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

Result<ClientConfig> ParseClientConfig(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(text, "client.json", {1 << 20, 6}));
  std::string error;
  const JsonReader at(json, "client", error);
  const std::string format = at.Text("format");
  if (error.empty() && format != kClientFormat)
    return MakeError(ErrorCode::kMismatch, "client.format = \"{}\", not \"{}\"",
                     format.substr(0, 64), kClientFormat);
  const ClientConfig config = Read(at, error);
  at.RefuseOthers([](std::string_view) { return false; });
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "client.json: {}", error);
  if (config.certificate)
    PV_RETURN_IF_ERROR(ValidateCertificate(*config.certificate, "client.certificate"));
  return config;
}

}  // namespace polyveil::model
