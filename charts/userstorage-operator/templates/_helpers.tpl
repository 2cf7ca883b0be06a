{{- define "userstorage-operator.image" -}}
{{ $.Values.image.repository }}:{{ $.Values.image.tag | default $.Chart.AppVersion }}{{ with $.Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* The CPU limit in cores; 1 without a limit, since the process works in one thread. */ -}}
{{- define "userstorage-operator.cores" -}}
{{- $limit := dig "limits" "cpu" "1" $.Values.resources | toString -}}
{{- if hasSuffix "m" $limit }}{{ divf (trimSuffix "m" $limit) 1000 }}{{ else }}{{ $limit }}{{ end -}}
{{- end }}

{{- /* The memory limit in bytes, as a product. */ -}}
{{- define "userstorage-operator.memory" -}}
{{- $limit := $.Values.resources.limits.memory -}}
{{- $number := regexFind "^[0-9.]+" $limit -}}
{{- $factors := dict "Ki" "1024" "Mi" "1024 * 1024" "Gi" "1024 * 1024 * 1024" "k" "1e3" "M" "1e6" "G" "1e9" "" "1" -}}
({{ $number }} * {{ get $factors (trimPrefix $number $limit) }})
{{- end }}
