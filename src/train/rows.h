// Loops over single rows of scores and logits, vectorised; float and double.
#pragma once

#include <cstdint>

namespace polyveil::train {

// p = (s + c)^power * factor over one row; returns the sum.
float PowerRow(const float* s, float* p, int n, float shift, float factor, int power);
double PowerRow(const double* s, double* p, int n, double shift, double factor, int power);

// In: p powers, g = dO . v. Out: p = weights (inv p), g = dS. Returns sum of dS; adds sum dP p to
// *scale_grad.
float PowerRowBackward(const float* s, float* p, float* g, int n, float shift, float inv, float dy,
                       int power, float* scale_grad);
double PowerRowBackward(const double* s, double* p, double* g, int n, double shift, double inv,
                        double dy, int power, double* scale_grad);

// p = softmax(s); p may be s. In float a weight errs by at most (|s - max s| + 8) 2^-23 of itself.
void SoftmaxRow(const float* s, float* p, int n);
void SoftmaxRow(const double* s, double* p, int n);

// In: p weights, g = dP. Out: g = dS.
void SoftmaxRowBackward(const float* p, float* g, int n);
void SoftmaxRowBackward(const double* p, double* g, int n);

// -log softmax(x)[target]; x becomes exp(x - max x), *sum its sum. Errors as SoftmaxRow's.
float CrossEntropyRow(float* x, int n, int target, float* sum);
double CrossEntropyRow(double* x, int n, int target, double* sum);

// A student's logits s against a teacher's t: returns KL(softmax t || softmax s), *text receives
// -log softmax(s)[target]; s becomes softmax(s) - weight softmax(t), t its exponentials.
float DistilRow(float* s, float* t, int n, float weight, int target, float* text);
double DistilRow(double* s, double* t, int n, double weight, int target, double* text);

float DotRow(const float* x, const float* y, int n);
double DotRow(const double* x, const double* y, int n);

// y = x * factor; as bfloat16, rounded to nearest even, when y is of 16 bits.
void ScaleRow(const float* x, float* y, int n, float factor);
void ScaleRow(const double* x, double* y, int n, double factor);
void ScaleRow(const float* x, std::uint16_t* y, int n, float factor);

// y = x * gain * factor.
void GainRow(const float* x, const float* gain, float factor, float* y, int n);
void GainRow(const double* x, const double* gain, double factor, double* y, int n);
// Its gradients: dx = dy gain factor; d_gain += dy x factor; returns that of factor.
float GainRowBackward(const float* dy, const float* x, const float* gain, float factor, float* dx,
                      float* d_gain, int n);
double GainRowBackward(const double* dy, const double* x, const double* gain, double factor,
                       double* dx, double* d_gain, int n);

// y = x[0, n) * x[n, 2 n), and its gradient.
void HalvesRow(const float* x, float* y, int n);
void HalvesRow(const double* x, double* y, int n);
void HalvesRowBackward(const float* dy, const float* x, float* dx, int n);
void HalvesRowBackward(const double* dy, const double* x, double* dx, int n);

// z = x + y * factor.
void AddScaledRow(const float* x, const float* y, float factor, float* z, int n);
void AddScaledRow(const double* x, const double* y, double factor, double* z, int n);

// One step of Adam over n values: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,
// w = keep w - rate m / (sqrt(v root_factor) + epsilon), g multiplied by `clip` first.
struct AdamStep {
  double clip, beta1, beta2, keep, rate, root_factor, epsilon;
};
void AdamRow(const AdamStep& step, const float* g, float* m, float* v, float* w, std::int64_t n);
void AdamRow(const AdamStep& step, const double* g, double* m, double* v, double* w,
             std::int64_t n);

}  // namespace polyveil::train
