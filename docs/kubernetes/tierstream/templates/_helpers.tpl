{{- define "tierstream.name" -}}
{{- $name := .Values.fullnameOverride | default (ternary .Release.Name (printf "%s-tierstream" .Release.Name) (contains "tierstream" .Release.Name)) -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the pods of a component; never changed, since a Deployment's selector can't be. Takes (list $ component). */}}
{{- define "tierstream.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: tierstream
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "tierstream.labels" -}}
{{- $root := index . 0 -}}
{{ include "tierstream.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name, namespace and labels of an object. Takes (list $ component). */}}
{{- define "tierstream.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "tierstream.name" $root }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels: {{- include "tierstream.labels" . | nindent 2 }}
{{- end -}}

{{- define "tierstream.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* The policy, or the path of its file if `policies` has it. Takes (list $ policy). */}}
{{- define "tierstream.policy" -}}
{{- $root := index . 0 -}}
{{- if hasKey $root.Values.policies (index . 1) -}}/etc/tierstream/policies/{{ end }}{{ index . 1 -}}
{{- end -}}

{{/* Settings as environment variables. Takes (list prefix settings). Whole numbers are written as such: Helm reads 1000000 as 1e+06. */}}
{{- define "tierstream.settings" -}}
{{- $prefix := index . 0 -}}
{{- range $name, $value := index . 1 }}
- name: {{ $prefix }}{{ upper $name }}
  {{- if kindIs "map" $value }}
  value: {{ toJson $value | quote }}
  {{- else if kindIs "float64" $value }}
  value: {{ int64 $value | quote }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What every process has in its environment. Takes (list $ component). */}}
{{- define "tierstream.env" -}}
{{- $root := index . 0 -}}
{{- with $root.Values -}}
- name: TIERSTREAM_BROKER
  value: {{ .kafka.brokers | quote }}
- name: TIERSTREAM_SECURITY_PROTOCOL
  value: {{ .kafka.securityProtocol }}
{{- if hasPrefix "SASL" .kafka.securityProtocol }}
- name: TIERSTREAM_SASL_MECHANISM
  value: {{ .kafka.sasl.mechanism }}
{{- if include "tierstream.namesUser" $ }}
- name: TIERSTREAM_SASL_USERNAME
  value: {{ .kafka.sasl.username | quote }}
{{- end }}
{{- end }}
{{- if .kafka.caSecret.name }}
- name: TIERSTREAM_TLS_CA_FILE
  value: /etc/tierstream/kafka/{{ .kafka.caSecret.key }}
{{- end }}
{{- if .redis.url }}
- name: TIERSTREAM_REDIS_URL
  value: {{ .redis.url | quote }}
{{- end }}
- name: TIERSTREAM_CREATE_TOPICS
  value: {{ eq .topics.createdBy "workers" | quote }}
- name: TIERSTREAM_WEB_HOST
  value: "0.0.0.0"
{{- $settings := deepCopy .settings }}
{{- range $one := list "policy" "shadow" }}
{{- with get $settings $one }}
{{- $_ := set $settings $one (include "tierstream.policy" (list $root .)) }}
{{- end }}
{{- end }}
{{- include "tierstream.settings" (list "TIERSTREAM_" $settings) }}
{{- end }}
{{- end -}}

{{/* Whether the user of Kafka is named in the values, not in a Secret. */}}
{{- define "tierstream.namesUser" -}}
{{- with (index . 0).Values -}}
{{- if and .kafka.sasl.username (not (and (eq (index $ 1) "topics") .topics.saslSecret.name)) }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{/* The secrets of a component as files of /run/secrets, where the program looks for settings. Takes (list $ component). */}}
{{- define "tierstream.secrets" -}}
{{- $component := index . 1 -}}
{{- with (index . 0).Values -}}
{{- if hasPrefix "SASL" .kafka.securityProtocol }}
{{- $secret := ternary .topics.saslSecret .kafka.sasl.secret (and (eq $component "topics") (ne .topics.saslSecret.name "")) }}
- secret:
    name: {{ $secret.name }}
    items:
      {{- if not (include "tierstream.namesUser" $) }}
      - {key: {{ $secret.usernameKey }}, path: tierstream_sasl_username}
      {{- end }}
      - {key: {{ $secret.passwordKey }}, path: tierstream_sasl_password}
{{- end }}
{{- $reads := list "worker" "console" "doctor" "command" }}
{{- if .push.agents }}
{{- $reads = append $reads "push" }}
{{- end }}
{{- if and .redis.urlSecret.name (has $component $reads) }}
- secret:
    name: {{ .redis.urlSecret.name }}
    items:
      - {key: {{ .redis.urlSecret.key }}, path: tierstream_redis_url}
{{- end }}
{{- if eq $component "push" }}
- secret:
    name: {{ .push.secret.name }}
    items:
      - {key: {{ .push.secret.urlKey }}, path: tierstream_push_url}
      - {key: {{ .push.secret.secretKey }}, path: tierstream_push_secret}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The metadata of a pod. Takes (list $ component). Pods start again when a file that they have changes. */}}
{{- define "tierstream.podMetadata" -}}
{{- $root := index . 0 -}}
{{- with $root.Values -}}
# No version: a chart that is new only elsewhere does not start them again.
labels:
  {{- include "tierstream.selector" $ | nindent 2 }}
  {{- with .pods.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/policies: {{ toJson .policies | sha256sum }}
  {{- if eq (index $ 1) "ingest" }}
  checksum/mappings: {{ toJson .ingest.mappings | sha256sum }}
  {{- end }}
  {{- with .pods.annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Whether a component has the policies' files. Topics are created before the chart's own objects are there, and need none. */}}
{{- define "tierstream.hasPolicies" -}}
{{- if and (index . 0).Values.policies (ne (index . 1) "topics") }}yes{{ end -}}
{{- end -}}

{{/* What every pod's spec has. Takes (list $ component). */}}
{{- define "tierstream.pod" -}}
{{- $root := index . 0 -}}
{{- with $root.Values -}}
automountServiceAccountToken: false
# A Service named tierstream-console would put TIERSTREAM_CONSOLE_PORT into the environment, which is a setting.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .pods.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $root.Values.pods $name }}
{{ $name }}: {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- with include "tierstream.secrets" $ }}
  - name: secrets
    projected:
      defaultMode: 0440
      sources: {{- . | nindent 8 }}
  {{- end }}
  {{- if include "tierstream.hasPolicies" $ }}
  - name: policies
    configMap: {name: {{ include "tierstream.name" $root }}-policies}
  {{- end }}
  {{- if .kafka.caSecret.name }}
  - name: kafka-ca
    secret: {secretName: {{ .kafka.caSecret.name }}, defaultMode: 0440}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "tierstream.spread" -}}
{{- $own := . -}}
{{- with (index . 0).Values.pods.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - labelSelector:
      matchLabels: {{- include "tierstream.selector" $own | nindent 8 }}
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What every container has. */}}
{{- define "tierstream.container" -}}
image: {{ include "tierstream.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where the volumes of tierstream.pod are. Takes (list $ component). */}}
{{- define "tierstream.mounts" -}}
{{- $root := index . 0 -}}
- {name: tmp, mountPath: /tmp}
{{- if include "tierstream.secrets" . }}
- {name: secrets, mountPath: /run/secrets, readOnly: true}
{{- end }}
{{- if include "tierstream.hasPolicies" . }}
- {name: policies, mountPath: /etc/tierstream/policies, readOnly: true}
{{- end }}
{{- if $root.Values.kafka.caSecret.name }}
- {name: kafka-ca, mountPath: /etc/tierstream/kafka, readOnly: true}
{{- end }}
{{- end -}}

{{/* Values that do not fit together, which a schema can't say. */}}
{{- define "tierstream.check" -}}
{{- with .Values -}}
{{- range $broker := splitList "," .kafka.brokers -}}
{{- if not (regexMatch "^\\s*\\S+:[0-9]{1,5}\\s*$" $broker) }}{{ fail (printf "kafka.brokers: %q is not host:port, as in kafka:9092" $broker) }}{{ end -}}
{{- end -}}
{{- range $which := list "policy" "shadow" -}}
{{- $file := get $.Values.settings $which -}}
{{- if and (hasSuffix ".toml" $file) (not (hasKey $.Values.policies $file)) }}{{ fail (printf "settings.%s is %s, which policies does not have: --set-file 'policies.%s=%s'" $which $file (replace "." "\\." $file) $file) }}{{ end -}}
{{- end -}}
{{- $hasRedis := or .redis.url .redis.urlSecret.name -}}
{{- if and .redis.url .redis.urlSecret.name }}{{ fail "redis.url and redis.urlSecret both say where Redis is: give one of them" }}{{ end -}}
{{- if contains "@" .redis.url }}{{ fail "redis.url has a user or a password, which everybody who may read the Deployment would see: put the whole address into a Secret and name it in redis.urlSecret" }}{{ end -}}
{{- if and .console.enabled (not $hasRedis) }}{{ fail "the console reads Redis: give redis.urlSecret or redis.url, or set console.enabled=false" }}{{ end -}}
{{- if hasPrefix "SASL" .kafka.securityProtocol -}}
{{- if not .kafka.sasl.secret.name }}{{ fail (printf "kafka.securityProtocol=%s needs a user and a password: name their Secret in kafka.sasl.secret.name" .kafka.securityProtocol) }}{{ end -}}
{{- else if or .kafka.sasl.secret.name .kafka.sasl.username .topics.saslSecret.name -}}
{{- fail (printf "with kafka.securityProtocol=%s nobody signs in to Kafka: take SASL_SSL, or leave kafka.sasl and topics.saslSecret out" .kafka.securityProtocol) -}}
{{- end -}}
{{- if and .kafka.caSecret.name (not (hasSuffix "SSL" .kafka.securityProtocol)) }}{{ fail (printf "kafka.caSecret is for TLS, but kafka.securityProtocol is %s" .kafka.securityProtocol) }}{{ end -}}
{{- if gt (int .worker.replicas) (int .settings.partitions) }}{{ fail (printf "worker.replicas=%d, but with settings.partitions=%d only %d workers would have a partition" (int .worker.replicas) (int .settings.partitions) (int .settings.partitions)) }}{{ end -}}
{{- if and .console.ingress.enabled (not .console.settings.proxies) }}{{ fail "console.ingress needs console.settings.proxies, the addresses of the ingress controller's pods, as in 10.0.0.0/8: else everybody has the controller's address, and 50 wrong passwords shut all people out" }}{{ end -}}
{{- if and .push.enabled (not .push.secret.name) }}{{ fail "push needs an address and a key: name their Secret in push.secret.name" }}{{ end -}}
{{- if and .push.agents (not $hasRedis) }}{{ fail "push.agents takes the most urgent alerts from Redis: give redis.urlSecret or redis.url" }}{{ end -}}
{{- if and .push.agents (gt (int .push.replicas) 1) }}{{ fail "push.agents is a budget of one process: set push.replicas=1" }}{{ end -}}
{{- if .ingest.enabled -}}
{{- if not .ingest.settings.sources }}{{ fail "ingest needs ingest.settings.sources, as in shop.orders=orders.toml" }}{{ end -}}
{{- range $source := splitList " " .ingest.settings.sources -}}
{{- $file := last (splitList "=" $source) -}}
{{- if and (hasSuffix ".toml" $file) (not (hasKey $.Values.ingest.mappings $file)) }}{{ fail (printf "ingest.settings.sources names %s, which ingest.mappings does not have: --set-file 'ingest.mappings.%s=%s'" $file (replace "." "\\." $file) $file) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The spec of a pod that runs one command. Takes (list $ component arguments resources). */}}
{{- define "tierstream.command" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- include "tierstream.pod" (list $root $component) }}
restartPolicy: Never
containers:
  - name: {{ $component }}
    {{- include "tierstream.container" $root | nindent 4 }}
    args: {{- toYaml (index . 2) | nindent 6 }}
    {{- if eq $component "command" }}
    stdin: true
    tty: true
    {{- end }}
    env: {{- include "tierstream.env" (list $root $component) | nindent 6 }}
    resources: {{- toYaml (index . 3) | nindent 6 }}
    volumeMounts: {{- include "tierstream.mounts" (list $root $component) | nindent 6 }}
{{- end -}}
