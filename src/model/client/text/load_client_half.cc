#include "model/client/text/load_client_half.h"

#include "model/client/text/text_tokenizer.h"
#include "model/formats/checkpoint.h"
#include "model/import/client_files_of_checkpoint.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

constexpr JsonLimits kConfigLimits{16 << 20, 64};

class ReleasedCodec : public TextCodec {
 public:
  ReleasedCodec(TextTokenizer tokenizer, std::string chat_template)
      : tokenizer_(std::move(tokenizer)), chat_template_(std::move(chat_template)) {}
  std::vector<TokenId> Encode(std::string_view text) const override {
    return tokenizer_.Encode(text);
  }
  std::string Piece(TokenId token) const override { return tokenizer_.BytesOf(token); }
  int vocabulary() const override { return tokenizer_.vocab_size(); }
  std::vector<TokenId> Beginning() const override { return tokenizer_.parts().prefix; }
  std::vector<TokenId> Ending() const override { return tokenizer_.parts().suffix; }
  std::string ChatTemplate() const override { return chat_template_; }

 private:
  TextTokenizer tokenizer_;
  std::string chat_template_;
};

// chat_template of tokenizer_config.json: a text, or several with names, of which "default" counts.
Result<std::string> TemplateOf(const ClientFile* config) {
  if (config == nullptr) return std::string();
  PV_ASSIGN_OR_RETURN(const auto json,
                      ParseStrictJson(config->text(), kTextConfigName, kConfigLimits));
  const auto field = json.is_object() ? json.find("chat_template") : json.end();
  if (!json.is_object() || field == json.end()) return std::string();
  if (field->is_string()) return field->get<std::string>();
  for (const auto& entry : field->is_array() ? *field : nlohmann::json::array())
    if (entry.is_object() && entry.value("name", nlohmann::json()) == "default" &&
        entry.value("template", nlohmann::json()).is_string())
      return entry["template"].get<std::string>();
  return std::string();
}

Result<std::unique_ptr<const TextCodec>> ReleasedCodecOf(const ClientFiles& files,
                                                         const std::string& family) {
  const auto made = [](TextTokenizer tokenizer, std::string text) {
    return std::unique_ptr<const TextCodec>(
        std::make_unique<ReleasedCodec>(std::move(tokenizer), std::move(text)));
  };
  if (const ClientFile* file = files.Find(kTextGgufName)) {
    PV_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(file->bytes));
    PV_ASSIGN_OR_RETURN(TextTokenizer tokenizer, TextTokenizer::FromGguf(gguf));
    PV_ASSIGN_OR_RETURN(const auto text, gguf.Text("tokenizer.chat_template"));
    return made(std::move(tokenizer), text.value_or(""));
  }
  const ClientFile* json = files.Find(kTextJsonName);
  const ClientFile* config = files.Find(kTextConfigName);
  if (json == nullptr)
    return MakeError(ErrorCode::kNotFound, "neither {} nor {}", kTextJsonName, kTextGgufName);
  PV_ASSIGN_OR_RETURN(TextTokenizer tokenizer,
                      config ? TextTokenizer::ParseJson(json->text(), config->text(), family)
                             : TextTokenizer::ParseJson(json->text()));
  const ClientFile* own = files.Find(kChatTemplateName);
  if (own != nullptr) return made(std::move(tokenizer), std::string(own->text()));
  PV_ASSIGN_OR_RETURN(std::string text, TemplateOf(config));
  return made(std::move(tokenizer), std::move(text));
}

}  // namespace

Result<ClientFiles> ClientFilesOf(const std::string& path) {
  if (IsBundle(path)) return ClientFilesOfBundle(path);
  PV_ASSIGN_OR_RETURN(const auto checkpoint, LoadCheckpoint(path));
  return ClientFilesOfCheckpoint(checkpoint, NameOfModel(path));
}

Result<std::shared_ptr<const ClientHalf>> MakeClientHalf(ClientFiles files, bool text_only) {
  const ClientFile* file = files.Find(kClientConfigName);
  if (file == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", kClientConfigName);
  PV_ASSIGN_OR_RETURN(const ClientConfig config, ParseClientConfig(file->text()));
  PV_ASSIGN_OR_RETURN(auto codec, config.family.empty() ? BundleCodec(files)
                                                        : ReleasedCodecOf(files, config.family));
  return ClientHalf::Create(std::move(files), std::move(codec), text_only);
}

}  // namespace polyveil::model
