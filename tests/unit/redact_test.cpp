#include "base/redact.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "support/fixture.h"

namespace cw::testing {

// Made-up values, put together here so that no scanner takes this file for a leak.
const std::string random_part = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8";

struct SecretForm {
  std::string text, secret;
};

std::vector<SecretForm> secret_forms() {
  const std::string& r = random_part;
  const std::string plain = "correct-horse";
  std::vector<SecretForm> forms;
  // By the name before it.
  for (const char* before : {"--api-key ",
                             "--api-key=",
                             "--admin-api-key ",
                             "--hf-token=",
                             "--token ",
                             "['--api-key', '",
                             "[\"--hf-token\",\"",
                             "--password ",
                             "--secret=",
                             "--auth-token ",
                             "--ssl-keyfile-password ",
                             "HF_TOKEN=",
                             "HUGGING_FACE_HUB_TOKEN=",
                             "OPENAI_API_KEY=",
                             "AWS_SECRET_ACCESS_KEY=",
                             "WANDB_API_KEY=",
                             "NGC_API_KEY=",
                             "DB_PASSWORD=",
                             "MY_SECRET=",
                             "api_key='",
                             "\"api_key\": \"",
                             "'token': '",
                             "\"accessToken\":\"",
                             "password: ",
                             "apiKey: ",
                             "client_secret=",
                             "Authorization: Bearer ",
                             "Authorization: Basic ",
                             "-H 'Authorization: Bearer ",
                             "Cookie: ",
                             "X-Api-Key: ",
                             "bearer ",
                             "passphrase=",
                             "private_key = ",
                             "PGPASSWORD=",
                             "SSHPASS=",
                             "ANTHROPIC_KEY=",
                             "MY_TOKEN_1=",
                             "API_KEY_2=",
                             "OPENAI_APIKEY2=",
                             "OPENAI_API_KEY_FALLBACK=",
                             "HF_TOKEN_VALUE=",
                             "PRIVATE_KEY_PEM=",
                             "SOME_VENDORS_KEY=",
                             "-Dpassword=",
                             "-DapiKey=",
                             "curl -uuser:",
                             "api_key: !!str ",
                             "--header=Authorization:Bearer\\ "})
    forms.push_back({before + plain, plain});
  // As logs and other programs print them.
  for (const auto& [before, after] : std::vector<std::pair<std::string, std::string>>{
           {"{'api_key': ['", "']}"},
           {"api_keys=['x', '", "']"},
           {"api_keys={'", "'}"},
           {"{\"api_key\":{\"value\":\"", "\"}}"},
           {"api_key=SecretStr('", "')"},
           {"api_key=b'", "'"},
           {"api_key=(", ")"},
           {"auth=('u', '", "')"},
           {"api_key=<", ">"},
           {"{\"m\": \"{\\\"api_key\\\": \\\"", "\\\"}\"}"},
           {"\x1b[36mapi_key\x1b[0m=\x1b[35m", "\x1b[0m"},
           {"('api_key', '", "')"},
           {"[('HF_TOKEN', '", "')]"},
           {"\"--api-key\",\n\"", "\""},
           {"--api-key \\\n  ", " --x"},
           {"DB_PASS=", ""},
           {"--redis-pass ", ""},
           {"--pass ", ""},
           {"HFTOKEN=", ""},
           {"tokens: ", ""},
           {"api key: ", ""},
           {"API Key: ", ""},
           {"curl -u user:", " http"},
           {"https://h/?key=", "&x=1"},
           {"Cookie: a=x; b=", ""},
           {"api_key := ", ""},
           {"api_key->", ""},
           {"--api-key=x,", ""},
           {"[{\"name\":\"HF_TOKEN\",\"value\":\"", "\"}]"},
           {"{'name': 'HF_TOKEN', 'value': '", "'}"},
           {"<password>", "</password>"},
           {"<apiKey>", "</apiKey>"},
           {"os.environ[\"HF_TOKEN\"] = \"", "\""},
           {"os.environ['API_KEY']='", "'"},
           {"<add key=\"token\" value=\"", "\"/>"},
           {"['--api-key', 'x', '", "', '--port']"},
           {"{\"value\": \"", "\", \"name\": \"HF_TOKEN\"}"},
           {"{'val': '", "', 'key': 'api_key'}"},
           {"{\"name\": \"HF_TOKEN\", \"val\": \"", "\"}"},
           {"  - value: ", "\n    name: API_KEY\n"},
           {"  - name: API_KEY\n    value: ", "\n"},
           {"- {name: API_KEY, value: ", "}"},
           {"{value: ", ", name: API_KEY}"},
           {"token:\n  ", "\nport: 1\n"},
           {"  token: |\n    ", "\n  port: 1\n"},
           {"api_keys:\n  - ", "\nport: 1\n"},
           {"TOKEN+=", ""},
           {"API_KEY ?= ", ""},
           {"--creds ", ""},
           {"<secret a=\"1\">", "</secret>"},
           {"<entry key=\"password\">", "</entry>"},
           {"--token-file-content ", ""},
           {"API_KEY_VALUE=", ""},
           {"HF_TOKEN=\"a\"", ""},
           {"HF_TOKEN='x'\"", "\""},
           {"HF_TOKEN=$'", "'"},
           {"-passin pass:", ""},
           {"ENV HF_TOKEN ", "\n"},
           {"--api-key\n", "\n--port"},
           {"password=a,", ""},
           {"password=a;", ""},
           {"password=p@ss,", " x"},
           {"{\"token\":\n \"", "\"}"},
           {"api_key=\n'", "'"},
           {"api_key: str = '", "'"},
           {"token = \"\"\"", "\"\"\""},
           {"{\"Name\":\"HF_TOKEN\",\"Value\":\"", "\"}"},
           {"{\"pass\":\"", "\"}"},
           {"user=a pass=", ""},
           {"client_passwords: ", ""},
           {"authkey=", ""},
           {"session_key=", ""},
           {"token: # why\n  ", "\n"},
           {"token:\n\n  ", "\nport: 1\n"},
           {"password: | # why\n  ", "\n"},
           {"password: two ", "\n"},
           {"secrets:\n  db: ", "\n"},
           {"secrets:\n  db:\n    main: ", "\n"},
           {"<password><![CDATA[", "]]></password>"},
           {"<string name=\"api_key\" a=\"b\">", "</string>"},
           {"Authorization: Negotiate ", ""},
           {"-H 'Authorization: Key ", "'"},
           {"?token%3D", ""},
           {"Authorization: Digest username=\"u\", response=\"", "\""}})
    forms.push_back({before + plain + after, plain});
  // By its own form, wherever it stands.
  for (const char* prefix :
       {"hf_",  "sk-",   "sk-proj-", "ghp_",  "gho_",    "github_pat_", "glpat-",    "nvapi-",
        "gsk_", "xoxb-", "AIza",     "ya29.", "npm_",    "pypi-",       "dckr_pat_", "r8_",
        "SG.",  "hvs.",  "eyJ",      "xai-",  "glsa_",   "pplx-",       "tvly-",     "rpa_",
        "csk-", "fw_",   "whsec_",   "figd_", "secret_", "dckr_oat_"})
    forms.push_back({"it is " + (prefix + r) + ", they say", prefix + r});
  forms.push_back({"AKIA" + std::string("IOSFODNN7EXAMPLE"), "IOSFODNN7EXAMPLE"});
  // By its place in a URL.
  forms.push_back({"https://user:" + plain + "@host/path", plain});
  forms.push_back({"postgres://u:" + plain + "@db:5432/x", plain});
  forms.push_back({"http://host/p?a=1&token=" + plain + "&b=2", plain});
  forms.push_back({"https://host/o?X-Amz-Signature=" + plain, plain});
  forms.push_back({"http://host/?sig=" + plain, plain});
  forms.push_back(
      {"-----BEGIN RSA PRIVATE KEY-----\n" + plain + "\n-----END RSA PRIVATE KEY-----", plain});
  return forms;
}

TEST(Redact, EveryFormOfASecret) {
  const auto forms = secret_forms();
  EXPECT_GE(forms.size(), 50u);
  for (const SecretForm& form : forms) {
    const std::string clean = redact(std::string_view(form.text));
    EXPECT_EQ(clean.find(form.secret), std::string::npos) << form.text << " -> " << clean;
    EXPECT_NE(clean.find(redacted), std::string::npos) << clean;
    EXPECT_EQ(redact(std::string_view(clean)), clean) << "again";
  }
}

TEST(Redact, WhatIsNoSecretStays) {
  for (const char* text : {
           "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tokenizer-path x "
           "--max-total-tokens 16384",
           "--tokenizer-mode auto --skip-tokenizer-init --stop-token-ids 1 2",
           "Decode batch. #running-req: 8, #token: 512, token usage: 0.02, gen throughput "
           "(token/s): 1234.5",
           "api_key=None, admin_api_key=None, ssl_keyfile='/etc/key.pem'",
           "time_to_first_token_s 0.5, time per output token: 12 ms",
           "the key 'kv_indptr' is not in it; a sk-learn model and an hf_transfer download",
           "http://127.0.0.1:30000/v1/models, user@host, git@github.com:a/b",
           "no access token: HF_TOKEN is not set; token=$HF_TOKEN",
           "MAX_TOKENS=100 TOKENIZERS_PARALLELISM=false SGLANG_BYPASS=1 CUDA_VISIBLE_DEVICES=0 "
           "KV_CACHE_DTYPE=fp8",
           "{\"name\": \"page_size\", \"value\": \"1\"} --key-value-dtype fp8 -u docs/README:x",
           "value: 5, name: page_size; {\"value\": 1, \"name\": \"tokens_per_s\"}; - name: TP\n  "
           "value: 4",
           "tokens:\n  - prompt: 5\n  - output: 6\nsecret:\nport: 1\n",
           "KeyError: no such token\nvalue: what is it",
           "token usage: 0.02, pass: 12, fail: 3; bypass=1",
           "max_tokens=5,tokenizer=x,token=None,a=b",
           "task-runner, desk-1, disk-budget, risk-free-and-long-word-with-hyphens",
       })
    EXPECT_EQ(redact(std::string_view(text)), text);
}

TEST(Redact, CommandsAndJson) {
  const std::vector<std::string> words{"serve", "--api-key", "correct-horse", "--port",
                                       "30000", "--auth",    "--flag"};
  EXPECT_EQ(redact(words), (std::vector<std::string>{"serve", "--api-key", "***", "--port", "30000",
                                                     "--auth", "--flag"}));
  const std::vector<std::string> curl{
      "curl", "-u", "user:correct-horse", "--user", "me:correct-horse", "a:b"};
  EXPECT_EQ(redact(curl), (std::vector<std::string>{"curl", "-u", "***", "--user", "***", "a:b"}));
  const Json json = {
      {"environment", {{"HF_TOKEN", "correct-horse"}, {"A", "b"}}},
      {"command", {"x", "--token", "correct-horse"}},
      {"nested", {{{"password", "correct-horse"}, {"max_tokens", 5}, {"token", nullptr}}}},
      {"time_to_first_token_s", 0.25}};
  const Json clean = redact(json);
  EXPECT_EQ(dump(clean).find("correct-horse"), std::string::npos) << dump(clean);
  EXPECT_EQ(clean["nested"][0]["max_tokens"], 5);
  EXPECT_EQ(clean["time_to_first_token_s"], 0.25);
  EXPECT_EQ(clean["environment"]["A"], "b");
  EXPECT_EQ(redact(Json{{"value", "correct-horse"}, {"name", "HF_TOKEN"}})["value"], "***");
  EXPECT_EQ(printable({{"run", "--token=correct-horse"}, {{"HF_TOKEN", "correct-horse"}}}),
            "HF_TOKEN='***' run '--token=***'");
}

TEST(Redact, LocalFoldersAreCut) {
  for (const auto& [word, expected] :
       {std::pair("/data/models/Llama-3.1-8B/", "Llama-3.1-8B"),
        std::pair("--model-path=/home/me/x", "--model-path=x"),
        std::pair("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        std::pair("/c/hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f",
                  "meta-llama/Llama-3.1-8B"),
        std::pair("./model", "model"), std::pair("~/m", "m"), std::pair("--tp", "--tp"),
        std::pair("http://host/a/b", "http://host/a/b"), std::pair("/", ""),
        std::pair("cd /a && b", "cd /a && b")})
    EXPECT_EQ(without_local_folders(word), expected) << word;
}

TEST(Redact, FilesOfAnySize) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "log";
  std::string text, expected;
  for (int i = 0; i < 40'000; ++i) {
    text += fmt::format("line {} --token correct-horse{} and more words to make it long enough\n",
                        i, i);
    expected += fmt::format("line {} --token *** and more words to make it long enough\n", i);
  }
  write_text(path, text);
  ASSERT_TRUE(redact_file(path));
  EXPECT_TRUE(read_text(path) == expected);
  struct stat status {};
  ::stat(path.c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(redact_file(folder.path() / "none").error().code, "not_found");
}

// Time grows with the text, not faster.
TEST(Redact, LongTextsOfOneKind) {
#ifdef CW_SANITIZES_MEMORY
  constexpr std::size_t size = 1 << 16;  // two minutes otherwise
#else
  constexpr std::size_t size = 1 << 20;
#endif
  for (const char* part : {"://", "token", "a@", "\"", "Bearer ", "-----BEGIN ", "--password ",
                           "hf_", "value:", "-u:", "--user:", "val=", "token:\n", "token=a,",
                           "<token ", "password: ", "token\n", "\"token\","}) {
    std::string text;
    while (text.size() < size) text += part;
    EXPECT_FALSE(redact(std::string_view(text)).empty());
  }
}

}  // namespace cw::testing
