#!/bin/sh
# Userpilot's guide, with curl: identify, bulk as JSON and as a file, the status of a job.
# Usage: guide.sh BASE_URL TOKEN. Only these two are the gateway's.
set -eu
base=$1 token=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

ask() { curl --silent --show-error --fail --header "Authorization: Token $token" "$@"; }

field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

follow() {
  until ask "$base/v1/background_jobs/$1" > "$folder/job"; [ "$(field status < "$folder/job")" = completed ]; do
    sleep 0.1
  done
  echo "$2: $(field completed_rows < "$folder/job") of $(field total_rows < "$folder/job")"
}

ask --request POST "$base/v1/identify" \
  --header 'Content-Type: application/json' --header 'X-API-Version: 2020-09-22' \
  --data '{"user_id":"curl-1","metadata":{"plan":"pro","seats":3},"company":{"id":"acme"}}'

job=$(ask --request POST "$base/v1/users/bulk_identify" \
  --header 'Content-Type: application/json' --header 'Accept: application/json, text/plain, */*' \
  --data '{"users":[{"user_id":"curl-2","metadata":{"plan":"free"}},{"user_id":"curl-3","company_id":"acme"}]}')
follow "$(echo "$job" | field job_id)" json

printf '%s\n' '{"user_id":"curl-4","metadata":{"plan":null}}' '{"user_id":"curl-5"}' > "$folder/users.ndjson"
job=$(ask --request POST "$base/v1/users/bulk_identify" --form "file=@$folder/users.ndjson")
follow "$(echo "$job" | field job_id)" file
