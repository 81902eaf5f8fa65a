# Compiles the programs named as arguments (cmd/kubelet ...) in the Kubernetes source tree that is the working folder.
#
# `make` would first generate all code again, which takes as long as compiling it. The sources come with that code;
# they lack the API server's OpenAPI definitions alone, which are made here as Makefile.generated_files makes them.
set -o errexit -o nounset -o pipefail

hack/make-rules/build.sh ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
packages=$(
    grep --recursive --files-with-matches --include='*.go' '^// *+k8s:openapi-gen=' pkg staging/src |
        grep --invert-match --regexp=/code-generator/ --regexp=/sample-apiserver/ |
        sed 's|^staging/src|vendor|; s|/[^/]*$||; s|^|k8s.io/kubernetes/|' |
        LC_ALL=C sort --unique |
        paste --serial --delimiters=,
)
hack/run-in-gopath.sh _output/bin/openapi-gen \
    --input-dirs "$packages" \
    --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --output-file-base zz_generated.openapi \
    --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
    --report-filename _output/violations
# What the API's types do against its rules is known to the last line, so another list means other packages.
diff _output/violations api/api-rules/violation_exceptions.list

hack/make-rules/build.sh "$@"
