#include "train/dataset.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "model/client/language_model.h"
#include "train/draws.h"

namespace polyveil::train {
namespace {

using model::Tokenizer;
constexpr std::int64_t kIgnore = -100;

void AppendStory(const Document& document, const Tokenizer& tokenizer, TokenStream& stream) {
  std::string_view rest = document.text;
  stream.bytes += document.text.size();
  while (!rest.empty()) {
    const std::size_t newline = rest.find('\n');
    const std::size_t length = newline == std::string_view::npos ? rest.size() : newline + 1;
    stream.line_starts.push_back(static_cast<std::int64_t>(stream.tokens.size()));
    const auto ids = tokenizer.Encode(rest.substr(0, length));
    stream.tokens.insert(stream.tokens.end(), ids.begin(), ids.end());
    rest.remove_prefix(length);
  }
  stream.tokens.push_back(Tokenizer::kEnd);
}

std::uint64_t Count(const std::map<std::string, TokenStream>& part) {
  std::uint64_t total = 0;
  for (const auto& [source, stream] : part) total += stream.tokens.size();
  return total;
}

double Weight(const std::map<std::string, double>& weights, const std::string& source) {
  const auto it = weights.find(source);
  return it == weights.end() ? 1.0 : it->second;
}

const TokenStream& PickSource(const Dataset& data, const std::map<std::string, double>& weights,
                              std::mt19937_64& random) {
  double total = 0;
  for (const auto& [source, stream] : data.train)
    total += Weight(weights, source) * static_cast<double>(stream.tokens.size());
  double left = total * (static_cast<double>(random() >> 11) * 0x1p-53);
  const TokenStream* picked = nullptr;
  for (const auto& [source, stream] : data.train) {
    if (stream.tokens.empty()) continue;
    picked = &stream;
    left -= Weight(weights, source) * static_cast<double>(stream.tokens.size());
    if (left < 0) break;
  }
  PV_CHECK(picked != nullptr, "no training tokens");
  return *picked;
}

void FillRow(const TokenStream& stream, std::int64_t start, int context, std::int64_t* inputs,
             std::int64_t* targets) {
  const auto size = static_cast<std::int64_t>(stream.tokens.size());
  for (int t = 0; t < context; ++t) {
    const std::int64_t at = start + t;
    const std::int64_t before = at - 1;
    inputs[t] = t == 0 || before >= size ? Tokenizer::kEnd : stream.tokens[before];
    targets[t] = at < size ? stream.tokens[at] : kIgnore;
  }
}

Batch EmptyBatch(int batch, int context) {
  const auto options = torch::TensorOptions().dtype(torch::kInt64);
  return {torch::empty({batch, context}, options), torch::empty({batch, context}, options)};
}

void FindLineStarts(const Tokenizer& tokenizer, TokenStream& stream) {
  bool start = true;
  for (std::size_t i = 0; i < stream.tokens.size(); ++i) {
    if (start) stream.line_starts.push_back(static_cast<std::int64_t>(i));
    const auto piece = tokenizer.Piece(stream.tokens[i]);
    start = stream.tokens[i] == Tokenizer::kEnd || (piece.ok() && piece->ends_with('\n'));
  }
}

// What dataset.json says of a source.
struct SourceSize {
  std::uint64_t tokens = 0, bytes = 0;
};

Result<SourceSize> ReadSize(const nlohmann::json& entry, const std::string& where) {
  SourceSize size;
  for (const auto& [key, value] :
       {std::pair{"tokens", &size.tokens}, std::pair{"bytes", &size.bytes}}) {
    if (!entry.is_object() || !entry.contains(key) || !entry[key].is_number_unsigned())
      return MakeError(ErrorCode::kCorrupt, "{}: {} is no count", where, key);
    *value = entry[key].get<std::uint64_t>();
  }
  // Rows are drawn from every source.
  if (size.tokens > 0) return size;
  return MakeError(ErrorCode::kCorrupt, "{}: tokens = 0, a source has 1 or more", where);
}

Result<TokenStream> ReadStream(const std::string& path, const SourceSize& size,
                               const Tokenizer& tokenizer) {
  PV_ASSIGN_OR_RETURN(const auto raw, model::ReadBundleFile(path, 1ull << 30));
  if (raw.size() % sizeof(std::int32_t) != 0 || raw.size() / sizeof(std::int32_t) != size.tokens)
    return MakeError(ErrorCode::kCorrupt, "{}: {} bytes, dataset.json says {} tokens of {}", path,
                     raw.size(), size.tokens, sizeof(std::int32_t));
  TokenStream stream;
  stream.bytes = size.bytes;
  stream.tokens.resize(raw.size() / sizeof(std::int32_t));
  std::memcpy(stream.tokens.data(), raw.data(), raw.size());
  for (const std::int32_t token : stream.tokens)
    if (token < 0 || token >= tokenizer.vocab_size())
      return MakeError(ErrorCode::kCorrupt, "{}: token {} outside the vocabulary of {}", path,
                       token, tokenizer.vocab_size());
  FindLineStarts(tokenizer, stream);
  return stream;
}

}  // namespace

std::uint64_t Dataset::TrainTokens() const { return Count(train); }
std::uint64_t Dataset::HeldoutTokens() const { return Count(heldout); }

Dataset Tokenize(const Corpus& corpus, const Tokenizer& tokenizer) {
  Dataset data;
  data.vocab_size = tokenizer.vocab_size();
  for (const Document& document : corpus.train)
    AppendStory(document, tokenizer, data.train[document.source]);
  for (const Document& document : corpus.heldout)
    AppendStory(document, tokenizer, data.heldout[document.source]);
  return data;
}

Batch DrawBatch(const Dataset& data, const std::map<std::string, double>& weights, int batch,
                int context, std::uint64_t seed, std::int64_t step) {
  std::mt19937_64 random = Generator(seed, step);
  Batch out = EmptyBatch(batch, context);
  for (int row = 0; row < batch; ++row) {
    const TokenStream& stream = PickSource(data, weights, random);
    const bool at_line = random() >> 63;
    const std::int64_t start = at_line
                                   ? stream.line_starts[Below(random, stream.line_starts.size())]
                                   : static_cast<std::int64_t>(Below(random, stream.tokens.size()));
    FillRow(stream, start, context, out.inputs.data_ptr<std::int64_t>() + row * context,
            out.targets.data_ptr<std::int64_t>() + row * context);
  }
  return out;
}

void ReplaceByRandomRows(Batch& batch, double chance, int vocab_size, std::uint64_t seed,
                         std::int64_t step) {
  std::mt19937_64 random = Generator(~seed, step);
  const std::int64_t context = batch.inputs.size(1);
  for (std::int64_t row = 0; row < batch.inputs.size(0); ++row) {
    if (static_cast<double>(random() >> 11) * 0x1p-53 >= chance) continue;
    std::int64_t* inputs = batch.inputs.data_ptr<std::int64_t>() + row * context;
    for (std::int64_t t = 1; t < context; ++t)
      inputs[t] = static_cast<std::int64_t>(Below(random, static_cast<std::uint64_t>(vocab_size)));
    batch.targets[row].fill_(kIgnore);
  }
}

std::vector<Batch> SequentialBatches(const TokenStream& stream, int batch, int context,
                                     std::int64_t skip) {
  std::vector<Batch> out;
  const auto size = static_cast<std::int64_t>(stream.tokens.size());
  const std::int64_t windows = (std::max<std::int64_t>(0, size - skip) + context - 1) / context;
  for (std::int64_t first = 0; first < windows; first += batch) {
    const int rows = static_cast<int>(std::min<std::int64_t>(batch, windows - first));
    Batch next = EmptyBatch(rows, context);
    for (int row = 0; row < rows; ++row)
      FillRow(stream, skip + (first + row) * context, context,
              next.inputs.data_ptr<std::int64_t>() + row * context,
              next.targets.data_ptr<std::int64_t>() + row * context);
    out.push_back(std::move(next));
  }
  return out;
}

Status SaveDataset(const Dataset& data, const Tokenizer& tokenizer, const Corpus& corpus,
                   const std::string& folder) {
  std::filesystem::create_directories(folder);
  nlohmann::ordered_json info;
  info["format"] = "polyveil-dataset/1";
  info["documents"] = {{"train", corpus.train.size()},
                       {"heldout", corpus.heldout.size()},
                       {"train_duplicates_dropped", corpus.train_duplicates},
                       {"heldout_duplicates_dropped", corpus.heldout_duplicates}};
  for (const auto* part : {&data.train, &data.heldout}) {
    const std::string name = part == &data.train ? "train" : "heldout";
    for (const auto& [source, stream] : *part) {
      info[name][source] = {{"tokens", stream.tokens.size()}, {"bytes", stream.bytes}};
      PV_RETURN_IF_ERROR(
          WriteFile(folder + "/" + name + "." + source + ".bin", BytesOf(stream.tokens)));
    }
  }
  for (const Document& document : corpus.heldout)
    info["heldout_names"].push_back(document.source + "/" + document.name);
  PV_RETURN_IF_ERROR(WriteFile(folder + "/dataset.json", info.dump(1) + "\n"));
  return WriteFile(folder + "/tokenizer.json", tokenizer.Format());
}

Result<Dataset> LoadDataset(const std::string& folder) {
  PV_ASSIGN_OR_RETURN(const auto raw, model::ReadBundleFile(folder + "/dataset.json", 1 << 24));
  PV_ASSIGN_OR_RETURN(const Tokenizer tokenizer, model::LoadTokenizer(folder));
  const auto info = nlohmann::json::parse(raw.begin(), raw.end(), nullptr, false);
  for (const char* part : {"train", "heldout"})
    if (!info.is_object() || !info.contains(part) || !info[part].is_object() || info[part].empty())
      return MakeError(ErrorCode::kCorrupt, "{}/dataset.json: nothing in its part \"{}\"", folder,
                       part);
  Dataset data;
  data.vocab_size = tokenizer.vocab_size();
  for (const std::string part : {"train", "heldout"})
    for (const auto& [source, entry] : info[part].items()) {
      PV_RETURN_IF_ERROR(CheckFileName(folder + "/dataset.json: source", source));
      PV_ASSIGN_OR_RETURN(
          const SourceSize size,
          ReadSize(entry, fmt::format("{}/dataset.json: {}.{}", folder, part, source)));
      PV_ASSIGN_OR_RETURN(TokenStream stream,
                          ReadStream(folder + "/" + part + "." + source + ".bin", size, tokenizer));
      (part == "train" ? data.train : data.heldout)[source] = std::move(stream);
    }
  return data;
}

}  // namespace polyveil::train
