// Secrets of others in what is written or shown: command lines, environments, URLs, answers and
// logs.
//
// A secret is known by what stands before it (--api-key, HF_TOKEN=, "password":, Authorization:),
// by its own form (hf_…, sk-…, AKIA…, a JSON web token, a private key), or by its place in a URL
// (user:password@, ?token=). What is recognised becomes ***.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/process.h"

namespace cw {

/// What stands where a secret was.
inline constexpr std::string_view redacted = "***";

/// Whether a flag, variable or member of that name holds a secret: HF_TOKEN, --api-key,
/// adminApiKey; not --tokenizer, max_total_tokens, ssl-keyfile.
bool is_secret_name(std::string_view name);

/// Any text, of any length, without its secrets. Idempotent.
std::string redact(std::string_view text);

/// A command's words: a secret may be the word after its flag.
std::vector<std::string> redact(std::vector<std::string> words);

/// Every text in it, and all of a member whose name is a secret's.
Json redact(Json json);

/// A command as to_shell() shows it, without its secrets.
std::string printable(const Command& command);

/// Takes the secrets out of a text file of any size, in place; mode 0600. Error codes: those of
/// reading and writing.
Result<void> redact_file(const std::filesystem::path& path);

/// A word of a command or a model's name, without the local folders in front of what it names:
/// "/data/models/Llama-3.1-8B" is "Llama-3.1-8B", and a snapshot in the Hub's cache is the model
/// that it is of ("meta-llama/Llama-3.1-8B").
std::string without_local_folders(std::string_view word);

}  // namespace cw
