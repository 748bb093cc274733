{{- define "forge.labels" -}}
app.kubernetes.io/name: dreamforge
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "forge.selector" -}}
app.kubernetes.io/name: dreamforge
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* kind: service or runner. A digest says which bytes it is, whatever the tag is moved to. */}}
{{- define "forge.image" -}}
{{- $image := .root.Values.image -}}
{{ index $image .kind }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ with index $image.digests .kind }}@{{ . }}{{ end }}
{{- end }}

{{- define "forge.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "forge.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Environment of every service: root, settings, and `objects` where it uses the object store. */}}
{{- define "forge.environment" -}}
- { name: FORGE_NATS_URL, value: {{ .root.Values.nats.url | quote }} }
- { name: FORGE_NATS_MONITOR_URL, value: {{ .root.Values.nats.monitorUrl | quote }} }
- { name: FORGE_STREAM_REPLICAS, value: {{ .root.Values.nats.streamReplicas | quote }} }
{{- if .root.Values.tracing.sampled }}
- { name: FORGE_TRACES_SAMPLED, value: {{ .root.Values.tracing.sampled | quote }} }
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .root.Values.tracing.endpoint | quote }} }
{{- end }}
{{- if .objects }}
- { name: FORGE_S3_ENDPOINT, value: {{ .root.Values.objects.endpoint | quote }} }
- { name: FORGE_S3_BUCKET, value: {{ .root.Values.objects.bucket | quote }} }
- { name: FORGE_S3_SECURE, value: {{ .root.Values.objects.secure | quote }} }
- { name: FORGE_S3_SECRET_KEY_FILE, value: /secrets/s3_secret_key }
{{- end }}
{{- range $name, $value := merge (deepCopy (.settings | default dict)) .root.Values.settings }}
- { name: {{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end }}

{{/* The files of the Secret that a service needs, and no other; the address of the database may be in another Secret. */}}
{{- define "forge.secretVolume" -}}
{{- $database := .root.Values.postgres.secret -}}
{{- $elsewhere := and $database.name (has "database_url" .files) -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .root.Values.secret }}
          items:
            {{- range .files }}
            {{- if not (and $elsewhere (eq . "database_url")) }}
            - { key: {{ . }}, path: {{ . }} }
            {{- end }}
            {{- end }}
      {{- if $elsewhere }}
      - secret:
          name: {{ $database.name }}
          items: [{ key: {{ $database.key }}, path: database_url }]
      {{- end }}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "forge.mounts" -}}
- { name: secrets, mountPath: /secrets, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "forge.probes" -}}
startupProbe: { httpGet: { path: /healthz, port: {{ . }} }, periodSeconds: 2, failureThreshold: 90 }
livenessProbe: { httpGet: { path: /healthz, port: {{ . }} }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 }
readinessProbe: { httpGet: { path: /readyz, port: {{ . }} }, periodSeconds: 5, timeoutSeconds: 5 }
{{- end }}

{{- define "forge.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: { matchLabels: { {{- include "forge.selector" . | fromYaml | toJson | trimPrefix "{" | trimSuffix "}" }} } }
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: { matchLabels: { {{- include "forge.selector" . | fromYaml | toJson | trimPrefix "{" | trimSuffix "}" }} } }
{{- end }}
