#include "train/distil/sample.h"

#include <algorithm>
#include <deque>

#include "base/thread_pool.h"
#include "model/float32/reference.h"

namespace polyveil::train {
namespace {

struct Writer {
  model::KvCache cache;
  model::Sampler sampler;
  std::vector<model::TokenId> next;  // what the model reads next
  std::vector<std::int32_t> text;
};

// The last logits of every writer's sequence pick its next token.
void Pick(const model::FloatMatrix& logits, const std::vector<Writer*>& writers) {
  ParallelFor(writers.size(), [&](std::size_t i) {
    const auto row = logits.row(static_cast<int>(i));
    const std::vector<double> wide(row.begin(), row.end());
    const model::TokenId token = writers[i]->sampler.Pick(wide);
    writers[i]->next = {token};
    writers[i]->text.push_back(token);
  });
}

// Rows of the last token of every writer.
model::FloatMatrix LastRows(const model::FloatMatrix& hidden, const std::vector<Writer*>& writers) {
  model::FloatMatrix last(static_cast<int>(writers.size()), hidden.cols);
  int row = -1;
  for (std::size_t i = 0; i < writers.size(); ++i) {
    row += static_cast<int>(writers[i]->next.size());
    std::ranges::copy(hidden.row(row), last.row(static_cast<int>(i)).begin());
  }
  return last;
}

// A token more of every text that is shorter than `length`; whether there was one.
Result<bool> Step(const model::FloatReference& reference, std::size_t length,
                  std::deque<Writer>& writers) {
  std::vector<Writer*> busy;
  std::vector<model::Sequence> batch;
  for (Writer& writer : writers) {
    if (writer.text.size() >= length) continue;
    busy.push_back(&writer);
    batch.push_back({writer.next, {}, &writer.cache});
  }
  if (busy.empty()) return false;
  PV_ASSIGN_OR_RETURN(const model::FloatMatrix hidden, reference.Hidden(batch));
  Pick(reference.Logits(LastRows(hidden, busy)), busy);
  return true;
}

}  // namespace

Result<std::vector<std::int32_t>> SampleText(const model::Checkpoint& checkpoint,
                                             const std::vector<SampledSequence>& sequences,
                                             int length, int rows) {
  for (const SampledSequence& sequence : sequences)
    PV_RETURN_IF_ERROR(model::ValidateSampling(sequence.sampling));
  const model::FloatReference reference(checkpoint);
  std::vector<std::int32_t> out;
  const auto at_once = static_cast<std::size_t>(rows);
  for (std::size_t done = 0; done < sequences.size(); done += at_once) {
    std::deque<Writer> writers;
    for (std::size_t i = done; i < std::min(sequences.size(), done + at_once); ++i)
      writers.push_back({model::KvCache(checkpoint.architecture),
                         model::Sampler(sequences[i].sampling), sequences[i].opening,
                         sequences[i].opening});
    for (bool more = true; more;) {
      PV_ASSIGN_OR_RETURN(more, Step(reference, static_cast<std::size_t>(length), writers));
    }
    for (const Writer& writer : writers)
      out.insert(out.end(), writer.text.begin(), writer.text.end());
  }
  return out;
}

}  // namespace polyveil::train
