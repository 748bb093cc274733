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

{{- define "forge.image" -}}
{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
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

{{/* The files of the Secret that a service needs, and no other. */}}
{{- define "forge.secretVolume" -}}
- name: secrets
  secret:
    secretName: {{ .root.Values.secret }}
    defaultMode: 0440
    items:
      {{- range .files }}
      - { key: {{ . }}, path: {{ . }} }
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
