// Removes users' secrets from what is written or shown: command lines, environments, URLs,
// responses and logs.
//
// A secret is recognised by what precedes it (--api-key, HF_TOKEN=, "password":, Authorization:),
// by its form (hf_…, sk-…, AKIA…, a JSON Web Token, a private key), or by its position in a URL
// (user:password@, ?token=). It is replaced by ***.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/process.h"

namespace cw {

/// The replacement for a secret.
inline constexpr std::string_view redacted = "***";

/// Whether a flag, variable or member of that name holds a secret: HF_TOKEN, --api-key,
/// adminApiKey; not --tokenizer, max_total_tokens, ssl-keyfile.
bool is_secret_name(std::string_view name);

/// Text of any length, without its secrets. Idempotent.
std::string redact(std::string_view text);

/// A command's words: a secret may be the word after its flag.
std::vector<std::string> redact(std::vector<std::string> words);

/// Redacts every string in it, and the whole value of a member whose name is a secret's.
Json redact(Json json);

/// A command as to_shell() shows it, without its secrets.
std::string printable(const Command& command);

/// Redacts a text file of any size in place; its mode becomes 0600. Error codes: those of
/// reading and writing.
Result<void> redact_file(const std::filesystem::path& path);

/// A command's word or a model's name without leading local folders: "/data/models/Llama-3.1-8B"
/// becomes "Llama-3.1-8B", and a snapshot in the Hub's cache becomes its model
/// ("meta-llama/Llama-3.1-8B").
std::string without_local_folders(std::string_view word);

}  // namespace cw
