#include "serve/client/proxy/openai_embeddings.h"

#include <sodium.h>

#include <bit>

#include "base/printable.h"
#include "serve/client/proxy/api_fields.h"
#include "serve/client/proxy/openai_reply.h"

namespace polyveil::serve {
namespace {

using api::Given;
using api::Refuse;
using nlohmann::json;

constexpr size_t kMaxTexts = 2048;  // as the API has it

// `user` asks for nothing: it goes nowhere.
Status CheckEmbeddingFields(const json& body) {
  for (const auto& [key, value] : body.items()) {
    if (value.is_null() || key == "model" || key == "input" || key == "encoding_format" ||
        key == "user")
      continue;
    if (key == "dimensions")
      return Refuse(key, "this value cannot be honoured: vectors have the model's width");
    return Refuse(Printable(key, 64), "this field is not supported");
  }
  return {};
}

Result<std::string> TextFrom(const json& value, const std::string& place) {
  if (value.is_number() || value.is_array())
    return Refuse(place,
                  "tokens: those of another model's tokenizer would be read as other words, "
                  "send texts");
  if (!value.is_string()) return Refuse(place, "{}, not a text", value.type_name());
  if (value.get_ref<const std::string&>().empty()) return Refuse(place, "an empty text");
  return value.get<std::string>();
}

Result<std::vector<std::string>> ReadInput(const json& body) {
  const json* input = Given(body, "input");
  if (!input) return Refuse("input", "it is missing");
  const bool many = input->is_array() && !(!input->empty() && input->front().is_number());
  std::vector<std::string> texts;
  if (!many) {
    PV_ASSIGN_OR_RETURN(std::string text, TextFrom(*input, "input"));
    texts.push_back(std::move(text));
    return texts;
  }
  if (input->empty()) return Refuse("input", "no text");
  if (input->size() > kMaxTexts) return Refuse("input", "{} texts > {}", input->size(), kMaxTexts);
  for (const json& value : *input) {
    PV_ASSIGN_OR_RETURN(std::string text, TextFrom(value, fmt::format("input[{}]", texts.size())));
    texts.push_back(std::move(text));
  }
  return texts;
}

Result<bool> WantsBase64(const json& body) {
  const json* format = Given(body, "encoding_format");
  if (!format || *format == "float") return false;
  if (*format == "base64") return true;
  return Refuse("encoding_format", "neither \"float\" nor \"base64\"");
}

// float32, the least significant byte first.
std::string Base64Of(const std::vector<double>& values) {
  std::vector<unsigned char> bytes;
  for (const double value : values) {
    const auto bits = std::bit_cast<u32>(static_cast<float>(value));
    for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<unsigned char>(bits >> (8 * i)));
  }
  constexpr int kVariant = sodium_base64_VARIANT_ORIGINAL;
  std::string text(sodium_base64_encoded_len(bytes.size(), kVariant), '\0');
  sodium_bin2base64(text.data(), text.size(), bytes.data(), bytes.size(), kVariant);
  text.pop_back();  // its zero
  return text;
}

}  // namespace

Result<EmbeddingRequest> ParseEmbeddingRequest(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const json body, api::ParseBody(text));
  PV_RETURN_IF_ERROR(CheckEmbeddingFields(body));
  EmbeddingRequest request;
  PV_ASSIGN_OR_RETURN(request.model, api::ModelOf(body));
  PV_ASSIGN_OR_RETURN(request.texts, ReadInput(body));
  PV_ASSIGN_OR_RETURN(request.base64, WantsBase64(body));
  return request;
}

std::string EmbeddingReply(const EmbeddingRequest& request, size_t tokens,
                           const std::vector<std::vector<double>>& vectors) {
  json data = json::array();
  for (const auto& vector : vectors)
    data.push_back({{"object", "embedding"},
                    {"index", data.size()},
                    {"embedding", request.base64 ? json(Base64Of(vector)) : json(vector)}});
  return Dump({{"object", "list"},
               {"model", request.model},
               {"data", std::move(data)},
               {"usage", {{"prompt_tokens", tokens}, {"total_tokens", tokens}}}});
}

}  // namespace polyveil::serve
