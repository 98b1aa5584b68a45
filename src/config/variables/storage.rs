//! Downloads, uploads, the cache.

use super::*;

variables! { "Storage"
    CACHE_DIR = PATH, "$HOME/.cache/comfyui-api",
        "downloaded files";
    LRU_CACHE_SIZE_GB = number(0.0, 1_000_000_000.0, "GB, 0 for no limit").of_node(), "0",
        "size the cache is kept to (GiB, fractions allowed); 0 = no limit";
    MAX_CONCURRENT_DOWNLOADS = number(1.0, 10_000.0, "downloads").of_node(), "10",
        "downloads at once";
    MAX_CONCURRENT_UPLOADS = number(1.0, 10_000.0, "uploads").of_node(), "10",
        "uploads at once";
    DOWNLOAD_CONNECTIONS = number(1.0, 64.0, "connections per large file"), "4",
        "connections per large file";
    HTTP_AUTH_HEADER_NAME = TEXT, "",
        "header added to storage requests over HTTP";
    HTTP_AUTH_HEADER_VALUE = TEXT.hidden(), "",
        "its value";
    HTTP_AUTH_ALLOWED_ORIGINS = TEXT, "",
        "comma-separated origins that get that header; unset = every host that a request names";
    HTTP_TRUSTED_ORIGINS = LIST, "",
        "comma-separated origins that may be reached although they are private";
    ALLOW_PRIVATE_NETWORKS = FLAG, "false",
        "let URLs from clients reach private addresses";
    HTTP_PROXY = TEXT.hidden(), "",
        "proxy for http:// and https:// targets; never used for ComfyUI";
    HTTPS_PROXY = TEXT.hidden(), "",
        "proxy for https:// targets; unset = HTTP_PROXY";
    NO_PROXY = TEXT, "",
        "hosts reached without a proxy";
    SIGNED_URL_EXPIRY_S = number(1.0, 604_800.0, "seconds, at most 7 days"), "3600",
        "validity of signed URLs, seconds";
    AWS_REGION = TEXT, "",
        "S3 region (or AWS_DEFAULT_REGION)";
    AWS_DEFAULT_REGION = TEXT, "",
        "S3 region when AWS_REGION is unset";
    AWS_ACCESS_KEY_ID = TEXT.hidden(), "",
        "S3 key; profiles, IRSA and instance metadata work too";
    AWS_SECRET_ACCESS_KEY = TEXT.hidden(), "",
        "S3 secret";
    AWS_SESSION_TOKEN = TEXT.hidden(), "",
        "S3 session token";
    AWS_ENDPOINT_URL_S3 = url(WEB), "",
        "another S3 service, before AWS_ENDPOINT_URL";
    AWS_ENDPOINT_URL = url(WEB), "",
        "another S3 service (or AWS_ENDPOINT, S3_ENDPOINT, or endpoint_url of the profile)";
    AWS_ENDPOINT = url(WEB), "",
        "see AWS_ENDPOINT_URL";
    S3_ENDPOINT = url(WEB), "",
        "see AWS_ENDPOINT_URL";
    S3_FORCE_PATH_STYLE = FLAG, "auto",
        "true or false; auto = when an endpoint is set";
    AZURE_STORAGE_CONNECTION_STRING = TEXT.hidden(), "",
        "Azure Blob Storage, all in one";
    AZURE_STORAGE_ACCOUNT = TEXT, "",
        "Azure account name";
    AZURE_STORAGE_KEY = TEXT.hidden(), "",
        "Azure account key";
    AZURE_STORAGE_SAS_TOKEN = TEXT.hidden(), "",
        "Azure SAS token instead of a key";
    AZURE_TENANT_ID = TEXT, "",
        "workload identity, set by AKS";
    AZURE_CLIENT_ID = TEXT, "",
        "workload identity, or the managed identity to use";
    AZURE_FEDERATED_TOKEN_FILE = PATH, "",
        "workload identity, set by AKS";
    AZURE_AUTHORITY_HOST = TEXT, "",
        "workload identity, set by AKS";
    HF_TOKEN = TEXT.hidden(), "",
        "Hugging Face token";
    HF_ENDPOINT = url(WEB), "https://huggingface.co",
        "another hub";
}
