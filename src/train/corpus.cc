#include "train/corpus.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unordered_set>

#include "base/output_file.h"

namespace polyveil::train {
namespace {

constexpr int kShingleWords = 8;
// Of documents cut because whole files would not do: enough of them that some are held out.
constexpr std::size_t kFewestDocuments = 200, kSmallestDocument = 256, kLargestDocument = 16384;
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

// Typographic signs to ASCII, markup off, one paragraph a line.
std::string CleanText(std::string text) {
  for (const auto& [from, to] : kTypography) ReplaceAll(text, from, to);
  std::istringstream lines(text);
  std::string out, line;
  while (std::getline(lines, line)) {
    line = Squeeze(line);
    if (!IsMarkup(line)) out += line + "\n";
  }
  return out;
}

}  // namespace

std::uint64_t StableHash(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211ull;
  return hash ^ (hash >> 29);
}

std::string CleanStory(const std::string& source, const std::string& raw) {
  return CleanText(WithoutFooter(source, raw));
}

std::size_t FindCut(std::string_view text, std::size_t bytes) {
  const std::size_t most = 2 * bytes;
  if (bytes == 0 || text.size() <= most) return text.size();
  for (std::size_t at = text.find('\n', bytes); at < most; at = text.find('\n', at + 1)) {
    const std::size_t next = text.find_first_not_of(" \t\r", at + 1);
    if (next == std::string_view::npos || text[next] == '\n') return at + 1;
  }
  for (const char mark : {'\n', ' '})
    if (const std::size_t at = text.rfind(mark, most - 1);
        at != std::string_view::npos && at >= bytes)
      return at + 1;
  std::size_t at = most;
  while (at > bytes && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

namespace {

// One file's documents.
void AddDocuments(const std::string& source, const std::string& name, const std::string& raw,
                  int document_bytes, bool clean, std::vector<Document>& documents) {
  const std::string whole = clean ? WithoutFooter(source, raw) : raw;
  std::string_view rest = whole;
  const auto bytes = static_cast<std::size_t>(document_bytes);
  const bool cut = FindCut(rest, bytes) < rest.size();
  for (int part = 1; part == 1 || !rest.empty(); ++part) {
    const std::size_t end = FindCut(rest, bytes);
    std::string text(rest.substr(0, end));
    if (clean) text = CleanText(std::move(text));
    documents.push_back({source, cut ? fmt::format("{}#{}", name, part) : name, std::move(text)});
    rest.remove_prefix(end);
  }
}

}  // namespace

Result<std::vector<Document>> ReadStories(const std::string& folder, int document_bytes,
                                          bool clean) {
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
    AddDocuments(ToFileName(path.parent_path().filename().string()), path.filename().string(),
                 raw.str(), document_bytes, clean, documents);
  }
  if (documents.empty())
    return MakeError(ErrorCode::kNotFound, "stories: no *.txt below {}", folder);
  return documents;
}

Result<Corpus> ReadCorpus(const std::string& folder, const CorpusOptions& options) {
  PV_ASSIGN_OR_RETURN(std::vector<Document> documents,
                      ReadStories(folder, options.document_bytes, options.clean));
  std::size_t bytes = 0;
  for (const Document& document : documents) bytes += document.text.size();
  Corpus corpus = SplitCorpus(std::move(documents), options);
  corpus.document_bytes = options.document_bytes;
  const auto has_text = [](const std::vector<Document>& part) {
    return std::any_of(part.begin(), part.end(), [](const Document& d) { return !d.text.empty(); });
  };
  if (!(has_text(corpus.train) && has_text(corpus.heldout)) && options.document_bytes == 0) {
    corpus.document_bytes = static_cast<int>(
        std::clamp<std::size_t>(bytes / kFewestDocuments, kSmallestDocument, kLargestDocument));
    PV_ASSIGN_OR_RETURN(documents, ReadStories(folder, corpus.document_bytes, options.clean));
    const int size = corpus.document_bytes;
    corpus = SplitCorpus(std::move(documents), options);
    corpus.document_bytes = size;
  }
  for (const auto* part : {&corpus.train, &corpus.heldout})
    corpus.cut_files += static_cast<int>(std::count_if(
        part->begin(), part->end(), [](const Document& d) { return d.name.ends_with("#1"); }));
  if (has_text(corpus.train) && has_text(corpus.heldout)) return corpus;
  return MakeError(ErrorCode::kOutOfRange,
                   "stories: of {} bytes below {} (documents of about {} bytes) {} documents are "
                   "left to train on and {} held out, {} and {} were duplicates; both parts need "
                   "text: more of it, smaller documents, or another share held out than {}%",
                   bytes, folder, corpus.document_bytes, corpus.train.size(), corpus.heldout.size(),
                   corpus.train_duplicates, corpus.heldout_duplicates, options.heldout_percent);
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
