#include "train/distil/run_text.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/system.h"
#include "model/sha256.h"
#include "train/distil/sample.h"
#include "train/search.h"

namespace polyveil::train {
namespace {

using Tokens = std::vector<std::int32_t>;

// Exactly `count` tokens of the vocabulary, or nothing.
std::optional<Tokens> ReadTokens(const std::string& path, std::size_t count, int vocab_size) {
  std::ifstream in(path, std::ios::binary);
  Tokens tokens(count);
  in.read(reinterpret_cast<char*>(tokens.data()),
          static_cast<std::streamsize>(count * sizeof(std::int32_t)));
  const bool whole = static_cast<std::size_t>(in.gcount()) == count * sizeof(std::int32_t);
  const bool known = std::ranges::all_of(
      tokens, [&](std::int32_t token) { return token >= 0 && token < vocab_size; });
  if (!whole || !known) return std::nullopt;
  return tokens;
}

std::vector<SampledSequence> Sequences(const DistilText& text, const DistilSource& source,
                                       std::uint64_t seed) {
  std::vector<SampledSequence> out;
  for (std::int64_t i = 0; i < source.sequences; ++i) {
    SampledSequence& next = out.emplace_back();
    next.opening.assign(text.prefix.begin(), text.prefix.end());
    const Tokens opening = SampleOpening(text, source, seed, i);
    next.opening.insert(next.opening.end(), opening.begin(), opening.end());
    const auto turn = static_cast<std::size_t>(i) % source.temperatures.size();
    next.sampling.temperature = source.temperatures[turn];
    next.sampling.top_p = source.top_p;
    next.sampling.seed = seed * 1'000'003 + static_cast<std::uint64_t>(i);
  }
  return out;
}

// The sequences without the prefix before each.
Tokens Behind(const Tokens& tokens, std::size_t prefix, std::size_t row) {
  Tokens out;
  for (std::size_t at = 0; at < tokens.size(); at += prefix + row)
    out.insert(out.end(), tokens.begin() + static_cast<std::ptrdiff_t>(at + prefix),
               tokens.begin() + static_cast<std::ptrdiff_t>(at + prefix + row));
  return out;
}

// Of the text and all that it was sampled from: the same only where it would be sampled again.
std::string SampledDigest(const std::string& weights_sha256,
                          const std::vector<SampledSequence>& sequences, std::size_t row,
                          const Tokens& tokens) {
  model::Sha256 hasher;
  hasher.UpdateField(weights_sha256);
  hasher.UpdateField(std::to_string(row));
  for (const auto& [opening, sampling] : sequences) {
    hasher.UpdateField(BytesOf(opening));
    hasher.UpdateField(
        fmt::format("{} {} {}", sampling.temperature, sampling.top_p, sampling.seed));
  }
  hasher.UpdateField(BytesOf(tokens));
  return hasher.Hex();
}

bool HoldsDigest(const std::string& path, const std::string& digest) {
  const auto file = MappedFile::Open(path);
  return file.ok() && (*file)->text() == digest;
}

Status Sample(const DistilConfig& config, const DistilRunOptions& options, const RunFolder& folder,
              const model::Checkpoint& checkpoint, const std::string& weights_sha256,
              const DistilText& text, DistilText::Source& source) {
  const std::string name = "sampled-" + source.options.name, file = name + ".bin",
                    digest_file = name + ".sha256";
  const auto row = static_cast<std::size_t>(text.row_length());
  const std::size_t wanted = static_cast<std::size_t>(source.options.sequences) * row;
  const std::uint64_t seed = config.seed + StableHash(source.options.name);
  const auto sequences = Sequences(text, source.options, seed);
  const auto digest = [&] { return SampledDigest(weights_sha256, sequences, row, source.tokens); };
  if (auto kept = ReadTokens(folder.Path(file), wanted, checkpoint.architecture.vocab_size)) {
    source.tokens = *std::move(kept);
    if (HoldsDigest(folder.Path(digest_file), digest())) return {};
  }
  const Timer timer;
  const std::size_t prefix = text.prefix.size();
  PV_ASSIGN_OR_RETURN(
      const Tokens whole,
      SampleText(checkpoint, sequences, static_cast<int>(prefix + row), config.sampled_rows));
  source.tokens = Behind(whole, prefix, row);
  torch::set_num_threads(config.threads);
  if (options.note)
    options.note(fmt::format("{}: {} tokens sampled from the original in {:.0f} s",
                             source.options.name, wanted, timer.Seconds()));
  PV_RETURN_IF_ERROR(folder.Write(file, BytesOf(source.tokens)));
  return folder.Write(digest_file, digest());
}

std::string FoundName(const std::string& stage) { return stage + ".found.bin"; }

void AddFound(const Tokens& tokens, RunText& text) {
  const auto row = static_cast<std::ptrdiff_t>(text.text.row_length());
  for (auto at = tokens.begin(); at != tokens.end(); at += row)
    text.text.found.emplace_back(at, at + row);
}

// Rows that came near an end or passed it, behind the prefix; a decoder's last token once more, for
// its target.
Tokens FoundTokens(const SearchReport& report, const DistilText& text) {
  Tokens out;
  const auto prefix = static_cast<std::ptrdiff_t>(text.prefix.size());
  for (const EndReport& end : report.ends)
    for (const WorstInput& near : end.near) {
      out.insert(out.end(), near.row.begin() + prefix, near.row.end());
      if (text.causal) out.push_back(static_cast<std::int32_t>(near.row.back()));
    }
  return out;
}

}  // namespace

std::vector<Batch> RunText::AllHeldout() const {
  std::vector<Batch> out;
  for (const auto& [name, batches] : heldout) out.insert(out.end(), batches.begin(), batches.end());
  return out;
}

Status LoadRunText(const DistilConfig& config, const DistilRunOptions& options,
                   const RunFolder& folder,
                   const std::shared_ptr<const model::Checkpoint>& checkpoint,
                   const std::string& weights_sha256, RunText& out) {
  PV_ASSIGN_OR_RETURN(out.tokenizer, model::TextTokenizer::Load(*checkpoint));
  PV_ASSIGN_OR_RETURN(
      out.text, ReadDistilText(options.stories, *out.tokenizer, checkpoint->architecture, config));
  if (std::ranges::any_of(config.sources, [](const auto& source) { return source.chat > 0; })) {
    PV_ASSIGN_OR_RETURN(out.text.chat, ChatMarksOf(checkpoint, config.prefix));
  }
  for (auto& source : out.text.sources)
    if (source.options.kind == SourceKind::kSampled)
      PV_RETURN_IF_ERROR(
          Sample(config, options, folder, *checkpoint, weights_sha256, out.text, source));
  for (const auto& [name, stream] : out.text.heldout)
    out.heldout[name] =
        HeldoutDistilBatches(out.text, stream, config.evaluation.heldout_rows, config.batch);
  if (!options.note) return {};
  for (const auto& source : out.text.sources)
    options.note(fmt::format("source {}: {} tokens", source.options.name, source.tokens.size()));
  for (const auto& [name, stream] : out.text.heldout)
    options.note(fmt::format("held out of {}: {} tokens", name, stream.size()));
  return {};
}

Result<nlohmann::ordered_json> SearchStage(const Transformer& model, const DistilSearch& search,
                                           const std::string& stage, const RunFolder& folder,
                                           int threads, RunText& text) {
  RowTokens tokens = text.text.hard->tokens();
  tokens.first.assign(text.text.prefix.begin(), text.text.prefix.end());
  RowTexts texts;
  for (const auto& [name, stream] : text.text.heldout) texts.emplace_back(stream);
  const int context = text.text.context - static_cast<int>(text.text.suffix.size());
  const HardInputs inputs(std::move(tokens), std::move(texts), context);
  SearchOptions options;
  options.seed = search.seed;
  options.inputs = search.inputs;
  options.swap_share = search.swap_share;
  options.rows = search.rows;
  options.workers = threads;
  PV_ASSIGN_OR_RETURN(const SearchReport report, SearchInputs(model, inputs, options));
  torch::set_num_threads(threads);
  PV_RETURN_IF_ERROR(folder.Write(stage + ".search.json", ToJsonText(report, inputs.tokens())));
  const Tokens found = FoundTokens(report, text.text);
  PV_RETURN_IF_ERROR(folder.Write(FoundName(stage), BytesOf(found)));
  AddFound(found, text);
  return nlohmann::ordered_json{
      {"candidates", report.candidates},   {"positions", report.positions},
      {"outside", report.outside},         {"beyond_a_tenth", report.beyond_tenth},
      {"worst_ratio", report.worst_ratio}, {"seconds", report.seconds}};
}

Status LoadFound(const std::string& stage, const RunFolder& folder, RunText& text) {
  const std::string path = folder.Path(FoundName(stage));
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (error) return {};
  const std::size_t count = bytes / sizeof(std::int32_t);
  const auto tokens = ReadTokens(path, count, text.tokenizer->vocab_size());
  if (!tokens || count % static_cast<std::size_t>(text.text.row_length()) != 0)
    return MakeError(ErrorCode::kCorrupt, "{}: {} bytes are no rows of {} tokens", path, bytes,
                     text.text.row_length());
  AddFound(*tokens, text);
  return {};
}

}  // namespace polyveil::train
