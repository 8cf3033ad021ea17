// The client's half against the float32 reference, for every family and kind of file.
#include "model/client/client_half.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/client/language_model.h"
#include "model/client/text/load_client_half.h"
#include "model/float32/reference.h"
#include "model/formats/released_fixture.h"
#include "model/import/block_source.h"
#include "model/import/client_files_of_checkpoint.h"

namespace polyveil::model {
namespace {

// Letters are tokens, "<" and ">" are around a text.
class LetterCodec : public TextCodec {
 public:
  explicit LetterCodec(int vocabulary, std::vector<TokenId> beginning = {},
                       std::vector<TokenId> ending = {})
      : vocabulary_(vocabulary), beginning_(std::move(beginning)), ending_(std::move(ending)) {}
  std::vector<TokenId> Encode(std::string_view text) const override {
    std::vector<TokenId> out;
    for (const char c : text) out.push_back(c - 'a');
    return out;
  }
  std::string Piece(TokenId token) const override {
    return std::string(1, static_cast<char>('a' + token));
  }
  int vocabulary() const override { return vocabulary_; }
  std::vector<TokenId> Beginning() const override { return beginning_; }
  std::vector<TokenId> Ending() const override { return ending_; }

 private:
  int vocabulary_;
  std::vector<TokenId> beginning_, ending_;
};

Result<std::shared_ptr<const ClientHalf>> HalfOf(ClientFiles files, int vocabulary = 20,
                                                 std::vector<TokenId> beginning = {}) {
  return ClientHalf::Create(std::move(files),
                            std::make_unique<LetterCodec>(vocabulary, std::move(beginning)));
}

void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected,
                double tolerance, const std::string& where) {
  ASSERT_EQ(actual.size(), expected.size()) << where;
  for (std::size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance) << where << ", value " << i;
}

// Embeddings are what layer 0 reads, logits of the last layer's residual those of the reference.
void ExpectLikeTheReference(const std::shared_ptr<const Checkpoint>& checkpoint,
                            const ClientHalf& half, const std::string& name) {
  const std::vector<std::int32_t> tokens = {3, 0, 7, 11, 3};
  const int layers = checkpoint->architecture.n_layers;
  const auto inputs = InputsOfLayer(*checkpoint, 0, tokens).value();
  const auto residuals = InputsOfLayer(*checkpoint, layers, tokens).value();
  const FloatReference reference(*checkpoint);
  const std::vector<Sequence> batch = {{tokens}};
  const FloatMatrix logits = reference.Logits(reference.Hidden(batch).value());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto x = half.Embed(std::span(tokens).first(i + 1));
    ASSERT_TRUE(x.ok()) << name << ": " << x.error().message;
    ExpectNear(*x, inputs[i], 1e-5, name + ", embedding");
    const auto row = logits.row(static_cast<int>(i));
    ExpectNear(half.Head(residuals[i]).value(), {row.begin(), row.end()}, 1e-4, name + ", logits");
  }
}

// Of an encoder's whole text, with its classifier where it has one.
void ExpectLikeTheEncoder(const std::shared_ptr<const Checkpoint>& checkpoint,
                          const ClientHalf& half, const std::string& name) {
  std::vector<std::int32_t> tokens = {3, 0, 7, 11, 3};
  tokens[2] = checkpoint->architecture.padding_token.value_or(7);  // at a position of its own
  const auto inputs = InputsOfLayer(*checkpoint, 0, tokens).value();
  const auto residuals =
      InputsOfLayer(*checkpoint, checkpoint->architecture.n_layers, tokens).value();
  const auto embedded = half.EmbedWhole({tokens, {}});
  ASSERT_TRUE(embedded.ok()) << name << ": " << embedded.error().message;
  const FloatReference reference(*checkpoint);
  const std::vector<Sequence> batch = {{tokens}};
  const FloatMatrix hidden = reference.Hidden(batch).value();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    ExpectNear((*embedded)[i], inputs[i], 1e-5, name + ", embedding");
    const auto row = hidden.row(static_cast<int>(i));
    ExpectNear(half.Hidden(residuals[i]).value(), {row.begin(), row.end()}, 1e-4,
               name + ", hidden");
  }
  if (checkpoint->architecture.head != HeadKind::kClassifier) return;
  const FloatMatrix logits = reference.Classify(batch).value();
  const auto row = logits.row(0);
  ExpectNear(half.Classify(residuals[0]).value(), {row.begin(), row.end()}, 1e-4,
             name + ", labels");
}

nlohmann::json CaseOf(const std::string& name) {
  for (const nlohmann::json& vectors : ReadVectors("logits.json"))
    if (vectors["name"] == name) return vectors;
  return {};
}

TEST(ClientHalf, EqualsTheReferenceForEveryFamily) {
  int checked = 0;
  for (const nlohmann::json& vectors : ReadVectors("logits.json")) {
    const std::string name = vectors["name"];
    for (const ElementType type : {ElementType::kF32, ElementType::kF16, ElementType::kF64}) {
      TemporaryFolder folder;
      WriteModel(vectors, folder.path(), type);
      const auto checkpoint = LoadCheckpoint(folder.path()).value();
      const Architecture& a = checkpoint->architecture;
      auto files = ClientFilesOfCheckpoint(checkpoint, name);
      ASSERT_TRUE(files.ok()) << name << ": " << files.error().message;
      const auto half = HalfOf(*std::move(files));
      ASSERT_TRUE(half.ok()) << name << ": " << half.error().message;
      EXPECT_EQ((*half)->config().family, a.family);
      EXPECT_EQ((*half)->is_encoder(), !a.causal);
      if (a.causal)
        ExpectLikeTheReference(checkpoint, **half, name);
      else
        ExpectLikeTheEncoder(checkpoint, **half, name);
      checked += a.causal;
    }
  }
  EXPECT_EQ(checked, 27);
}

TEST(ClientHalf, PutsTheTokensOfAnEncoderAroundItsTexts) {
  for (const std::string name : {"bert", "roberta classifier"}) {
    TemporaryFolder folder;
    WriteModel(CaseOf(name), folder.path());
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    const auto half = ClientHalf::Create(
        ClientFilesOfCheckpoint(checkpoint, name).value(),
        std::make_unique<LetterCodec>(20, std::vector<TokenId>{18}, std::vector<TokenId>{19}));
    ASSERT_TRUE(half.ok()) << half.error().message;
    const bool roberta = name != "bert";
    const EncoderText one = (*half)->EncodeWhole("abc").value();
    EXPECT_EQ(one.tokens, (std::vector<TokenId>{18, 0, 1, 2, 19}));
    EXPECT_EQ(one.segments, std::vector<std::int32_t>(5));
    const EncoderText two = (*half)->EncodeWhole("a", "b").value();
    EXPECT_EQ(two.tokens, roberta ? (std::vector<TokenId>{18, 0, 19, 19, 1, 19})
                                  : (std::vector<TokenId>{18, 0, 19, 1, 19}));
    EXPECT_EQ(two.segments.back(), roberta ? 0 : 1);
    EXPECT_TRUE((*half)->EmbedWhole(two).ok());
    EXPECT_EQ((*half)->EmbedWhole({{1}, {7}}).error().code, ErrorCode::kOutOfRange);
    EXPECT_EQ((*half)->EmbedWhole({{1, 2}, {0}}).error().code, ErrorCode::kMismatch);
    const std::string endless(static_cast<size_t>((*half)->context()), 'a');
    EXPECT_EQ((*half)->EncodeWhole(endless).error().code, ErrorCode::kOutOfRange);
    const std::vector<double> residual(static_cast<size_t>((*half)->width()));
    EXPECT_EQ((*half)->Head(residual).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ((*half)->Classify(residual).ok(), roberta);
  }
}

TEST(ClientHalf, EqualsTheReferenceForGguf) {
  for (const std::string name : {"gpt2", "gpt_neox", "llama", "mistral", "qwen2"}) {
    const auto checkpoint = LoadCheckpoint(VectorPath(name + ".gguf")).value();
    const auto half = HalfOf(ClientFilesOfCheckpoint(checkpoint, name).value());
    ASSERT_TRUE(half.ok()) << name << ": " << half.error().message;
    ExpectLikeTheReference(checkpoint, **half, name);
  }
}

// What travels: the files again from their bytes, without the checkpoint.
TEST(ClientHalf, IsWholeInItsFiles) {
  TemporaryFolder folder, sent;
  WriteModel(CaseOf("opt"), folder.path(), ElementType::kF16);
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const auto files = ClientFilesOfCheckpoint(checkpoint, "opt", "digest").value();
  const ClientManifest manifest = files.Manifest();
  const auto parsed = ClientManifest::Parse(manifest.Format());
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->files, manifest.files);
  EXPECT_EQ(parsed->Digest(), manifest.Digest());
  ClientFiles again;
  for (const ClientFile& file : files.files()) {
    WriteBytes(sent / file.name, file.bytes);
    ASSERT_TRUE(again.AddIfThere(sent.path(), file.name).ok());
  }
  EXPECT_EQ(again.Manifest().Digest(), manifest.Digest());
  const auto half = HalfOf(std::move(again)).value();
  EXPECT_EQ(half->config().model_digest, "digest");
  ExpectLikeTheReference(checkpoint, *half, "opt");
}

TEST(ClientHalf, NothingButItsOwnTensors) {
  TemporaryFolder folder;
  WriteModel(CaseOf("llama"), folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const auto files = ClientFilesOfCheckpoint(checkpoint, "llama").value();
  std::size_t bytes = 0;
  for (const ClientFile& file : files.files())
    if (file.name != kClientConfigName) bytes += file.bytes.size();
  const Architecture& a = checkpoint->architecture;
  const auto matrix = static_cast<std::size_t>(a.vocab_size) * static_cast<std::size_t>(a.d_model);
  EXPECT_LE(bytes, 4 * (2 * matrix + static_cast<std::size_t>(a.d_model)));
}

struct Change {
  const char* what;
  std::function<void(nlohmann::json&)> edit;
};

TEST(ClientHalf, RefusesOtherFiles) {
  TemporaryFolder folder;
  WriteModel(CaseOf("gpt2"), folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const auto files = ClientFilesOfCheckpoint(checkpoint, "gpt2").value();
  const auto with = [&](const Change& change) {
    ClientFiles out;
    for (const ClientFile& file : files.files()) {
      if (file.name != kClientConfigName) {
        out.Add(file.name, file.bytes, file.owner);
        continue;
      }
      auto json = nlohmann::json::parse(file.text());
      change.edit(json);
      out.Add(file.name, json.dump());
    }
    return out;
  };
  ASSERT_TRUE(HalfOf(with({"", [](auto&) {}})).ok());
  const Change changes[] = {
      {"\"embed\"", [](auto& j) { j["tensors"].erase("embed"); }},
      {"asks for \"more\"", [](auto& j) { j["tensors"]["more"] = j["tensors"]["pos"]; }},
      {"needs", [](auto& j) { j["vocabulary"] = 28; }},
      {"bytes", [](auto& j) { j["tensors"]["embed"]["type"] = "F16"; }},
      {"type", [](auto& j) { j["tensors"]["embed"]["type"] = "I32"; }},
      {"type", [](auto& j) { j["tensors"]["embed"]["type"] = "I4"; }},
      {"464", [](auto& j) { j["tensors"]["embed"]["type"] = "I8"; }},
      {"\"pos\"", [](auto& j) { j["context"] = 100000; }},
      {"extents",
       [](auto& j) {
         j["tensors"]["pos"]["shape"] = {1, 2, 3};
       }},
      {"shape",
       [](auto& j) {
         j["tensors"]["pos"]["shape"] = {-1, 2};
       }},
      {"centred", [](auto& j) { j["final_norm"]["subtracts_mean"] = false; }},
      {"ngram2", [](auto& j) { j["ngrams"] = 1; }},
      {"prefix", [](auto& j) { j["prefix"] = {29}; }},
      {"ends", [](auto& j) { j["ends"] = {0.5}; }},
      {"ends", [](auto& j) { j["ends"] = std::vector<int>(65, 1); }},
      {"width", [](auto& j) { j["width"] = 1 << 20; }},
      {"eps", [](auto& j) { j["final_norm"]["eps"] = -1; }},
      {"other", [](auto& j) { j["other"] = 1; }},
      {"format", [](auto& j) { j["format"] = "polyveil-client/2"; }},
      {"family", [](auto& j) { j.erase("family"); }},
  };
  for (const Change& change : changes) {
    const auto half = HalfOf(with(change));
    ASSERT_FALSE(half.ok()) << change.what;
    EXPECT_NE(half.error().message.find(change.what), std::string::npos) << half.error().message;
  }
  EXPECT_EQ(HalfOf(files, 30).error().code, ErrorCode::kMismatch);
}

TEST(ClientHalf, RefusesTextsThatItCannotEmbed) {
  TemporaryFolder folder;
  WriteModel(CaseOf("gpt2"), folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const auto half = HalfOf(ClientFilesOfCheckpoint(checkpoint, "gpt2").value()).value();
  const auto code = [&](std::vector<TokenId> text) {
    const auto x = half->Embed(text);
    return x.ok() ? ErrorCode::kIo : x.error().code;
  };
  EXPECT_EQ(code({}), ErrorCode::kOutOfRange);
  EXPECT_EQ(code({-1}), ErrorCode::kOutOfRange);
  EXPECT_EQ(code({29}), ErrorCode::kOutOfRange);
  EXPECT_EQ(code(std::vector<TokenId>(static_cast<std::size_t>(half->context()) + 1)),
            ErrorCode::kOutOfRange);
  EXPECT_TRUE(half->Embed(std::vector<TokenId>(static_cast<std::size_t>(half->context()))).ok());
  EXPECT_EQ(half->Head(std::vector<double>(3)).error().code, ErrorCode::kMismatch);
  EXPECT_EQ(half->Piece(29).error().code, ErrorCode::kOutOfRange);
  EXPECT_EQ(half->Piece(25).value(), "");  // a row without a token
}

TEST(ClientHalf, PutsThePrefixBeforeATextOnce) {
  TemporaryFolder folder;
  WriteModel(CaseOf("llama"), folder.path());
  auto checkpoint = std::make_shared<Checkpoint>(*LoadCheckpoint(folder.path()).value());
  checkpoint->forms.emplace().prefix = {5, 6};
  const auto files = ClientFilesOfCheckpoint(checkpoint, "llama").value();
  const auto tokens = [&](std::vector<TokenId> beginning) {
    return HalfOf(files, 20, std::move(beginning)).value()->Encode("ab");
  };
  EXPECT_EQ(tokens({}), (std::vector<TokenId>{5, 6, 0, 1}));
  EXPECT_EQ(tokens({5, 6}), (std::vector<TokenId>{5, 6, 0, 1}));
  EXPECT_EQ(tokens({5, 6, 7}), (std::vector<TokenId>{5, 6, 7, 0, 1}));
  EXPECT_EQ(tokens({5}), (std::vector<TokenId>{5, 6, 5, 0, 1}));
  EXPECT_EQ(tokens({9}), (std::vector<TokenId>{5, 6, 9, 0, 1}));
  const auto half = HalfOf(files).value();
  EXPECT_EQ(half->prefix(), 2);
  EXPECT_EQ(half->context(), checkpoint->architecture.context - 2);
  EXPECT_EQ(half->Embed(std::vector<TokenId>{5, 6}).error().code, ErrorCode::kOutOfRange);
  EXPECT_TRUE(half->Embed(std::vector<TokenId>{5, 6, 0}).ok());
}

TEST(ClientHalf, KnowsEveryEndToken) {
  TemporaryFolder folder;
  WriteModel(CaseOf("llama"), folder.path());
  const auto write = [&](const char* text) {
    WriteBytes(folder / "generation_config.json", std::string(text));
    const auto checkpoint = LoadCheckpoint(folder.path()).value();
    return ClientFilesOfCheckpoint(checkpoint, "llama");
  };
  const auto half = HalfOf(write(R"({"eos_token_id":[3,28]})").value()).value();
  EXPECT_TRUE(half->Ends(3));
  EXPECT_TRUE(half->Ends(28));
  EXPECT_FALSE(half->Ends(4));
  for (const char* bad : {R"({"eos_token_id":"x"})", R"({"eos_token_id":[-1]})",
                          R"({"eos_token_id":1e99})", "[", R"({"eos_token_id":[[1]]})"})
    EXPECT_FALSE(write(bad).ok()) << bad;
  EXPECT_TRUE(write(R"({"eos_token_id":null})").ok());
}

TEST(ClientHalf, AClassifierHasTwoLabelsOrMore) {
  TemporaryFolder folder;
  WriteModel(CaseOf("roberta classifier"), folder.path());
  const auto checkpoint = LoadCheckpoint(folder.path()).value();
  const auto files = ClientFilesOfCheckpoint(checkpoint, "roberta").value();
  auto json = nlohmann::json::parse(files.Find(kClientConfigName)->text());
  EXPECT_EQ(ParseClientConfig(json.dump()).value().encoder->labels.size(), 2u);
  json["encoder"]["labels"].erase(1);
  const std::string message = ParseClientConfig(json.dump()).error().message;
  EXPECT_NE(message.find("client.encoder has 1 label"), std::string::npos) << message;
}

// The embedded model through the same class: as the bundle's own reader has it, to the last bit
// that float32 leaves.
TEST(ClientHalf, EqualsTheBundlesReader) {
  const std::string folder = VectorPath("../../../models/tiny");
  const auto half = LoadClientHalf(folder);
  ASSERT_TRUE(half.ok()) << half.error().message;
  const auto language = LoadLanguageModel(folder).value();
  const auto tokens = (*half)->Encode("Once upon a time, there was a little dog.");
  EXPECT_EQ(tokens.front(), Tokenizer::kEnd);
  EXPECT_TRUE((*half)->Ends(Tokenizer::kEnd));
  EXPECT_EQ((*half)->config().model_digest, language.client.config.tensors_sha256);
  EXPECT_EQ((*half)->Piece(tokens[1]).value(), language.tokenizer.Piece(tokens[1]).value());
  for (std::size_t n = 1; n <= tokens.size(); ++n) {
    const auto text = std::span(tokens).first(n);
    const auto x = (*half)->Embed(text).value();
    ExpectNear(x, Embed(language.client, text).value(), 1e-12, "tiny, embedding");
    ExpectNear((*half)->Head(x).value(), Head(language.client, x).value(), 1e-9, "tiny, logits");
  }
}

TEST(ClientManifest, RefusesOthers) {
  const std::string digest(64, 'a');
  const auto manifest = [&](const std::string& name, const std::string& bytes = "3",
                            std::string sha = "") {
    if (sha.empty()) sha = digest;
    return R"({"format":"polyveil-client-files/1","files":[{"name":"client.json","bytes":1,"sha256":")" +
           digest + R"("},{"name":")" + name + R"(","bytes":)" + bytes + R"(,"sha256":")" + sha +
           "\"}]}";
  };
  ASSERT_TRUE(ClientManifest::Parse(manifest("embed")).ok());
  for (const char* name :
       {"a/b", "..", ".hidden", "", "client.json", "a\\u0000b", "\\u202e", "a b"})
    EXPECT_FALSE(ClientManifest::Parse(manifest(name)).ok()) << name;
  EXPECT_FALSE(ClientManifest::Parse(manifest(std::string(101, 'x'))).ok());
  for (const char* bytes : {"-1", "1.5", "1e30", "\"3\"", "null", "2251799813685248"})
    EXPECT_FALSE(ClientManifest::Parse(manifest("embed", bytes)).ok()) << bytes;
  for (const std::string& sha : {std::string("aa"), std::string(64, 'G'), std::string(64, 'A')})
    EXPECT_FALSE(ClientManifest::Parse(manifest("embed", "3", sha)).ok()) << sha;
  for (const char* text : {"", "[]", "{}", "{\"format\":\"polyveil-client-files/1\"}",
                           "{\"format\":\"polyveil-client-files/1\",\"files\":[]}",
                           "{\"format\":\"polyveil-client-files/1\",\"files\":[1]}"})
    EXPECT_FALSE(ClientManifest::Parse(text).ok()) << text;
  EXPECT_FALSE(ClientManifest::Parse(std::string(kMaxManifestBytes + 1, ' ')).ok());
}

}  // namespace
}  // namespace polyveil::model
