// Stories from a folder: cleaned, deduplicated, split by whole story (or book) into train and held
// out.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

struct Document {
  std::string source;  // folder: asp, classics, fairytaleqa, pratham
  std::string name;    // file
  std::string text;
};

struct CorpusOptions {
  // Larger files are cut into documents of about this size; 0: none, unless nothing would be left
  // to train on or held out (ReadCorpus).
  int document_bytes = 0;
  int heldout_percent = 5;         // of the documents, by a hash of source and name
  double duplicate_overlap = 0.2;  // share of 8-word shingles that makes a document a duplicate
  bool clean = true;               // CleanStory; else text stays as it is in the files
};

struct Corpus {
  std::vector<Document> train;
  std::vector<Document> heldout;
  // What became of documents that occur twice: dropped from training, or from the held-out part.
  int train_duplicates = 0;
  int heldout_duplicates = 0;
  int cut_files = 0, document_bytes = 0;  // how many were cut, and to which size
};

// Reads every *.txt below folder/<source>/ in name order; files larger than document_bytes (0:
// none) are cut, "name#1" and so on. Sources are file names of letters, digits, '-', '_', '.':
// other characters become '_'. clean: as CorpusOptions'. Errors: kNotFound, kIo.
Result<std::vector<Document>> ReadStories(const std::string& folder, int document_bytes = 0,
                                          bool clean = true);

// Where a text's first document ends, of about `bytes`: at a blank line, else at a line's end, else
// at a blank, else between two characters.
std::size_t FindCut(std::string_view text, std::size_t bytes);

// Reads and splits; both parts have text. Errors: ReadStories'; kOutOfRange for too little of it.
Result<Corpus> ReadCorpus(const std::string& folder, const CorpusOptions& options);

// Markdown and footers off, typographic signs to ASCII, one paragraph a line.
std::string CleanStory(const std::string& source, const std::string& raw);

// Deterministic: depends on the documents only. A held-out document that shares more than
// duplicate_overlap of its shingles with training text is dropped from the evaluation; a training
// document that repeats earlier ones is dropped from training.
Corpus SplitCorpus(std::vector<Document> documents, const CorpusOptions& options);

// FNV-1a, 64 bits: the split must never depend on a library's hash.
std::uint64_t StableHash(const std::string& text);

}  // namespace polyveil::train
