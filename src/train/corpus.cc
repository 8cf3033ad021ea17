#include "train/corpus.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unordered_set>

namespace polyveil::train {
namespace {

constexpr int kShingleWords = 8;
const std::pair<const char*, const char*> kTypography[] = {
    {"\u2018", "'"},   {"\u2019", "'"},   {"\u201c", "\""}, {"\u201d", "\""},       {"\u2013", "-"},
    {"\u2014", " - "}, {"\u2026", "..."}, {"\u00a0", " "},  {"\ufeff", ""},         {"\u200b", ""},
    {"--", " - "},     {"*", ""},         {"_", ""},        {"[Illustration]", ""}, {"\r", ""}};

void ReplaceAll(std::string& text, const std::string& from, const std::string& to) {
  std::string out;
  std::size_t at = 0;
  for (std::size_t hit; (hit = text.find(from, at)) != std::string::npos; at = hit + from.size())
    out += text.substr(at, hit - at) + to;
  text = out + text.substr(at);
}

bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)); }

// Runs of blanks become one; ends are cut.
std::string Squeeze(const std::string& line) {
  std::string out;
  for (const char c : line)
    if (!IsSpace(c))
      out += c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

bool IsMarkup(const std::string& line) {
  return line.empty() || line[0] == '#' || line[0] == '|' || line.rfind("---", 0) == 0 ||
         line.rfind("![", 0) == 0 || line.find("http") != std::string::npos;
}

// Picture-book files end in a section of credits behind the last "##".
std::string WithoutFooter(const std::string& source, const std::string& raw) {
  const std::size_t last = raw.rfind("\n##");
  const bool has_footer = source == "pratham" || source == "asp";
  return has_footer && last != std::string::npos ? raw.substr(0, last) : raw;
}

std::vector<std::uint64_t> Shingles(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!words.back().empty())
      words.emplace_back();
  }
  std::vector<std::uint64_t> out;
  for (std::size_t i = 0; i + kShingleWords <= words.size(); ++i) {
    std::string joined;
    for (int k = 0; k < kShingleWords; ++k) joined += words[i + k] + ' ';
    out.push_back(StableHash(joined));
  }
  return out;
}

double Overlap(const std::vector<std::uint64_t>& shingles,
               const std::unordered_set<std::uint64_t>& seen) {
  if (shingles.empty()) return 0;
  const auto hits = std::count_if(shingles.begin(), shingles.end(),
                                  [&](std::uint64_t s) { return seen.count(s) > 0; });
  return static_cast<double>(hits) / static_cast<double>(shingles.size());
}

}  // namespace

std::uint64_t StableHash(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  return hash ^ (hash >> 29);
}

std::string CleanStory(const std::string& source, const std::string& raw) {
  std::string text = WithoutFooter(source, raw);
  for (const auto& [from, to] : kTypography) ReplaceAll(text, from, to);
  std::istringstream lines(text);
  std::string out, line;
  while (std::getline(lines, line)) {
    line = Squeeze(line);
    if (!IsMarkup(line)) out += line + "\n";
  }
  return out;
}

Result<std::vector<Document>> ReadStories(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return MakeError(ErrorCode::kNotFound, "stories: {} is no folder", folder);
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error))
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Document> documents;
  for (const fs::path& path : paths) {
    std::ifstream in(path, std::ios::binary);
    std::stringstream raw;
    raw << in.rdbuf();
    if (!in) return MakeError(ErrorCode::kIo, "stories: cannot read {}", path.string());
    const std::string source = path.parent_path().filename().string();
    documents.push_back({source, path.filename().string(), CleanStory(source, raw.str())});
  }
  if (documents.empty())
    return MakeError(ErrorCode::kNotFound, "stories: no *.txt below {}", folder);
  return documents;
}

Corpus SplitCorpus(std::vector<Document> documents, const CorpusOptions& options) {
  Corpus corpus;
  std::vector<Document> held;
  std::unordered_set<std::uint64_t> seen;
  for (Document& document : documents) {
    if (static_cast<int>(StableHash(document.source + "/" + document.name) % 100) <
        options.heldout_percent) {
      held.push_back(std::move(document));
      continue;
    }
    const auto shingles = Shingles(document.text);
    if (Overlap(shingles, seen) > options.duplicate_overlap) {
      ++corpus.train_duplicates;
      continue;
    }
    seen.insert(shingles.begin(), shingles.end());
    corpus.train.push_back(std::move(document));
  }
  for (Document& document : held) {
    if (Overlap(Shingles(document.text), seen) > options.duplicate_overlap)
      ++corpus.heldout_duplicates;
    else
      corpus.heldout.push_back(std::move(document));
  }
  return corpus;
}

}  // namespace polyveil::train
