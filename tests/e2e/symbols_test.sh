#!/usr/bin/env bash
# The server's program and library must not contain the secret key, the decryptor or the tokenizer.
set -euo pipefail
server=$1 library=$2 client=$3
forbidden='SecretKey|Decryptor|Encryptor|KeyGenerator|Tokenizer|LanguageModel|Sampler'

count() { nm -C "$1" 2>/dev/null | grep -cE "$forbidden" || true; }

for file in "$server" "$library"; do
  if [ "$(count "$file")" -ne 0 ]; then
    echo "$file has symbols of the client:"
    nm -C "$file" 2>/dev/null | grep -E "$forbidden" | head -20
    exit 1
  fi
done
# The pattern itself works: the client has them.
if [ "$(count "$client")" -eq 0 ]; then
  echo "$client has none of the client's symbols: the pattern is wrong, or the program is stripped"
  exit 1
fi
echo "no symbol of $forbidden in $(basename "$server") and $(basename "$library")"
