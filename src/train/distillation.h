// The head's loss against a teacher's distribution beside the text itself.
#pragma once

#include <torch/torch.h>

#include "train/train_config.h"

namespace polyveil::train {

// (1 - weight) CE(text) + weight KL(teacher || student), means over targets >= 0; the teacher's
// entropy is left out of the value's gradient but not of the value, so that 0 means agreement.
// hidden, teacher_hidden [rows, width], embed, teacher_embed [vocab, width] (widths may differ),
// targets [rows] int64. Like HeadCrossEntropy: logits exist one block of rows at a time.
// *text_loss receives CE(text), without gradient. Under kBf16 the operands of the products are
// rounded to bfloat16.
torch::Tensor HeadDistillation(const torch::Tensor& hidden, const torch::Tensor& embed,
                               const torch::Tensor& teacher_hidden,
                               const torch::Tensor& teacher_embed, const torch::Tensor& targets,
                               double weight, torch::Tensor* text_loss,
                               Precision precision = Precision::kFloat32);

// The same by LibTorch's own operations at full precision, on any device: all logits exist at once.
namespace plain {
torch::Tensor HeadDistillation(const torch::Tensor& hidden, const torch::Tensor& embed,
                               const torch::Tensor& teacher_hidden,
                               const torch::Tensor& teacher_embed, const torch::Tensor& targets,
                               double weight, torch::Tensor* text_loss);
}  // namespace plain

}  // namespace polyveil::train
