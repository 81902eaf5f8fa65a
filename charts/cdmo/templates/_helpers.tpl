{{/* Labels of everything; the argument is the name of the part. */}}
{{- define "cdmo.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: cdmo
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels by which pods are selected; they must never change. */}}
{{- define "cdmo.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end }}

{{- define "cdmo.image" -}}
{{ .root.Values.image.repository }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "cdmo.pullSecrets" -}}
{{- $names := .Values.image.pullSecrets | default list }}
{{- if .Values.imageCredentials.password }}
{{- $names = append $names "cdmo-registry" }}
{{- end }}
{{- if $names }}
imagePullSecrets:
{{- range $names }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "cdmo.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "cdmo.nonRoot" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Something where new pods get our scheduling gate: schedulers from 1.27 to 1.32 know gates, and would
make a pod that they tried in vain wait before they try it again. */}}
{{- define "cdmo.schedulingGate" -}}
{{- $auto := semverCompare ">=1.27.0-0 <1.33.0-0" .Capabilities.KubeVersion.Version }}
{{- if or (eq .Values.webhook.schedulingGate "always") (and (eq .Values.webhook.schedulingGate "auto") $auto) }}yes{{ end }}
{{- end }}

{{/* Something where only namespaces with a label of ours come to the webhook: API servers before 1.28
cannot tell what asks for a fraction and what does not. */}}
{{- define "cdmo.webhookOptIn" -}}
{{- $auto := not (include "cdmo.matchConditions" .) }}
{{- if or (eq .Values.webhook.optIn "always") (and (eq .Values.webhook.optIn "auto") $auto) }}yes{{ end }}
{{- end }}

{{/* Something where API servers can tell what a webhook is for. */}}
{{- define "cdmo.matchConditions" -}}
{{- if semverCompare ">=1.28.0-0" .Capabilities.KubeVersion.Version }}yes{{ end }}
{{- end }}

{{/* Where API servers find the webhook, and for which namespaces. */}}
{{- define "cdmo.webhookPlace" -}}
clientConfig:
  # No caBundle: it is the controller's to write, and an upgrade leaves alone what is not here.
  service:
    name: cdmo-webhook
    namespace: {{ .Release.Namespace | quote }}
    path: /mutate
    port: 443
namespaceSelector:
  {{- if include "cdmo.webhookOptIn" . }}
  matchLabels:
    cdmo.clear.ml/webhook: enabled
  {{- end }}
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      {{- if include "cdmo.matchConditions" . }}
      values: [{{ .Release.Namespace | quote }}]
      {{- else }}
      # All pods would come, and a cluster must not depend on us.
      values: [{{ .Release.Namespace | quote }}, kube-system]
      {{- end }}
{{- end }}

{{/* What --help of both programs calls logging. */}}
{{- define "cdmo.logArgs" -}}
- {{ printf "--log-level=%s" .Values.logLevel | quote }}
- {{ printf "--log-format=%s" .Values.logFormat | quote }}
{{- end }}
