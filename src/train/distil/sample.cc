#include "train/distil/sample.h"

#include <algorithm>
#include <deque>

#include "base/thread_pool.h"
#include "model/client/sampling.h"
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
void Pick(const model::FloatMatrix& logits, std::deque<Writer>& writers) {
  ParallelFor(writers.size(), [&](std::size_t i) {
    const auto row = logits.row(static_cast<int>(i));
    const std::vector<double> wide(row.begin(), row.end());
    const model::TokenId token = writers[i].sampler.Pick(wide);
    writers[i].next = {token};
    writers[i].text.push_back(token);
  });
}

// Rows of the last token of every writer.
model::FloatMatrix LastRows(const model::FloatMatrix& hidden, const std::deque<Writer>& writers) {
  model::FloatMatrix last(static_cast<int>(writers.size()), hidden.cols);
  int row = -1;
  for (std::size_t i = 0; i < writers.size(); ++i) {
    row += static_cast<int>(writers[i].next.size());
    std::ranges::copy(hidden.row(row), last.row(static_cast<int>(i)).begin());
  }
  return last;
}

}  // namespace

Result<std::vector<std::int32_t>> SampleText(const model::Checkpoint& checkpoint,
                                             const std::vector<int>& prefix, int length,
                                             const DistilSampling& sampling, std::uint64_t seed) {
  model::SamplingOptions options{
      .temperature = sampling.temperature, .top_p = sampling.top_p, .seed = seed};
  PV_RETURN_IF_ERROR(model::ValidateSampling(options));
  const model::FloatReference reference(checkpoint);
  std::vector<std::int32_t> out;
  for (std::int64_t done = 0; done < sampling.sequences; done += sampling.rows) {
    std::deque<Writer> writers;
    for (std::int64_t i = done; i < std::min(sampling.sequences, done + sampling.rows); ++i) {
      options.seed = seed * 1'000'003 + static_cast<std::uint64_t>(i);
      writers.push_back({model::KvCache(checkpoint.architecture),
                         model::Sampler(options),
                         {prefix.begin(), prefix.end()},
                         {}});
    }
    for (int t = 0; t < length; ++t) {
      std::vector<model::Sequence> batch;
      for (Writer& writer : writers) batch.push_back({writer.next, {}, &writer.cache});
      PV_ASSIGN_OR_RETURN(const model::FloatMatrix hidden, reference.Hidden(batch));
      Pick(reference.Logits(LastRows(hidden, writers)), writers);
    }
    for (const Writer& writer : writers)
      out.insert(out.end(), writer.text.begin(), writer.text.end());
  }
  return out;
}

}  // namespace polyveil::train
