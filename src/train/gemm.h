// Row-major matrix products for the kernels, on the BLAS that LibTorch itself uses.
#pragma once

extern "C" {
void sgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k,
            const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
            const float* beta, float* c, const int* ldc);
void dgemm_(const char* ta, const char* tb, const int* m, const int* n, const int* k,
            const double* alpha, const double* a, const int* lda, const double* b, const int* ldb,
            const double* beta, double* c, const int* ldc);
}

namespace polyveil::train {

// C [m, n] = alpha op(A) [m, k] op(B) [k, n] + beta C; ld: elements from row to row as stored.
// Inside an OpenMP region OpenBLAS runs on the calling thread.
inline void Gemm(bool transpose_a, bool transpose_b, int m, int n, int k, float alpha,
                 const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  // Column-major BLAS sees the transposes, so it computes C^T = op(B)^T op(A)^T.
  sgemm_(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &n, &m, &k, &alpha, b, &ldb, a, &lda,
         &beta, c, &ldc);
}
inline void Gemm(bool transpose_a, bool transpose_b, int m, int n, int k, double alpha,
                 const double* a, int lda, const double* b, int ldb, double beta, double* c,
                 int ldc) {
  dgemm_(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &n, &m, &k, &alpha, b, &ldb, a, &lda,
         &beta, c, &ldc);
}

}  // namespace polyveil::train
